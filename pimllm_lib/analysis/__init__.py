"""Questions asked of evaluations: bounds, crossings, remedies, lifetimes, uncertainty, claims."""
