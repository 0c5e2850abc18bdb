"""What families of clients and servers say: one file each, with its `Server` and its `Client`."""
