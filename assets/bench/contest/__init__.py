"""What `peers` is made of: processes, tunnels, measures, rows, and the report."""
