"""Growth: a small trained model becomes the start of a wider or deeper one."""
