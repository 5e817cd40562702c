"""What the service remembers: tables, the database they live in, migrations, queries.

The model knows nothing of files, processes or HTTP. References between rows are foreign keys and are never counted
in a column, so that no count can be wrong after a crash.
"""
