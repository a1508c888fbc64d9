"""MLflow's databases: made whole or not at all, and waited for a few seconds, where MLflow waits much longer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddpm.base import files

SQLITE = "sqlite:///"
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # whole seconds; MLflow takes it for servers alone
# what each driver calls the seconds that a connection may take
CONNECTING = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "timeout"}


def create(database: Path) -> None:
    """An SQLite file for MLflow, which cannot open one whose tables are half made, as by a killed process."""
    from mlflow import MlflowClient

    with files.atomic_path(database) as temporary:
        MlflowClient(f"{SQLITE}{temporary.resolve()}").search_experiments(max_results=1)


def probe(uri: str) -> None:
    """Raise when a database is down or locked, which MLflow would wait for, most of an hour or 20 s. Others pass."""
    import sqlalchemy

    kind = urlsplit(uri).scheme.partition("+")[0]
    if kind not in CONNECTING:
        return
    seconds = {CONNECTING[kind]: int(os.environ[TIMEOUT])}
    engine = sqlalchemy.create_engine(uri, connect_args=seconds, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("BEGIN IMMEDIATE" if kind == "sqlite" else "SELECT 1"))


def bound_waits() -> None:
    """From now on this process waits TIMEOUT seconds for an SQLite that is locked after ``probe``."""
    import sqlalchemy

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", _bounded, retval=True)


def _bounded(
    connection: object, cursor: object, statement: str, parameters: Any, context: object, many: bool
) -> tuple[str, Any]:
    """MLflow begins each of its sessions with a bound of its own, 20 s."""
    if TIMEOUT in os.environ and statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {1000 * int(os.environ[TIMEOUT])}"
    return statement, parameters
