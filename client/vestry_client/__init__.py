"""The site program: owns the data, decides what it takes part in, trains and evaluates."""
