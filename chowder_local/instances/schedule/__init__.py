"""What agents do at their own times: the turns that no message of a client begins."""
