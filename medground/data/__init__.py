"""Data: targets read from disk, what can be measured of them, and the questions made from that."""
