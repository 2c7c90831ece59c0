"""Trunks and poolings that are not the paper's: what a network is given in place of its own."""
