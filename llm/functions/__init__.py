"""Pure NumPy functions: arrays in, arrays out; forward and VJP side by side."""
