"""NumPy's functions on tensors: `np.sum(t, axis=0)` calls ours."""
