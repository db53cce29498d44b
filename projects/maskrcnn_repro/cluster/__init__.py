"""Commands as jobs of a cluster: SLURM through submitit, Ray through its tasks."""
