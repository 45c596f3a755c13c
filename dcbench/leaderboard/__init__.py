"""From records to tables: scores, standings, intervals, rules, and the report."""
