"""Arrays in, arrays out: likelihoods, returns, estimators and statistics, without environments or networks."""
