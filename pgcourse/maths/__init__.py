"""Arrays in, arrays out: likelihoods, returns, TD errors, estimators and statistics, nothing else."""
