"""Many models: selected, planned, run by an engine, recorded in groups; nothing is lost when somebody is killed."""
