"""What Alembic runs for each command; the connection is handed in by `runtime.database`."""

from alembic import context

from runtime.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
