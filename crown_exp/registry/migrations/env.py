"""How alembic reaches the registry: the connection it is handed, the tables of `models`.

A revision is a module in `versions/`, its id the next number, written by hand; `models.REVISION` is set to it.
tests/unit/registry/test_migrations.py compares what all revisions make with the models.
"""

from alembic import context

from crown_exp.registry.models import metadata
from crown_exp.registry.opening import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite cannot alter a table, so it is copied
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
