"""What agents do when nobody asks, and when: jobs, and the clock that they go by."""
