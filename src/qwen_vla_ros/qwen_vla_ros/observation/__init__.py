"""What we see: one consistent set of sensor data, or the reason why there is none."""
