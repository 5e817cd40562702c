"""Runs Alembic on a connection that the service opened."""

from alembic import context

from openvstorage.vpool.model.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
