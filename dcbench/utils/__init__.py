"""What every other folder may use: errors, files, devices, seeds."""
