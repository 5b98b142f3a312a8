"""What io_speed is made of."""
