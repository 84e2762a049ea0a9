"""`accord compare`: routes from feedback to a policy, held against each other over seeds."""
