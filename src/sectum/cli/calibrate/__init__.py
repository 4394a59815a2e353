"""``sectum calibrate``."""
