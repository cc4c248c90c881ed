"""The database of a process: async SQLAlchemy, embedded SQLite, types and statements for any engine.

Here is what can be said of a database without opening it. What imports SQLAlchemy is imported from its module
by who needs it: `engine` (open_database), `statements`, `columns`; `sqlite` has all that is SQLite's own.
"""

from crown_exp.storage.database.base import Damaged, DatabaseError, database_url

__all__ = ["Damaged", "DatabaseError", "database_url"]
