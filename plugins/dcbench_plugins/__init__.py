"""The first-party plugins of dcbench: one file each, registered like anybody else's."""
