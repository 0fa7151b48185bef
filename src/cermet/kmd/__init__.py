"""The simulated kernel driver: accel/rocket of mainline Linux as a process of its own."""
