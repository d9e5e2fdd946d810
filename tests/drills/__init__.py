"""Long trials that no test run has the time for; each is started by hand."""
