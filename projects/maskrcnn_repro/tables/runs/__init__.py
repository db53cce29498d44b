"""What is run for a table: stages and their order, processes, progress, and the records that they leave."""
