"""What a run and a leaderboard show: tables and pictures."""
