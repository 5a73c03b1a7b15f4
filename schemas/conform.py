"""Convert a table to a schema, with an error that names the column that does not fit."""

from __future__ import annotations

import pyarrow as pa


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns, order, types and metadata of `schema`.

    Missing columns that may be null are filled with nulls, so that tables of older versions stay readable; columns that
    are not in the schema are an error.

    Raises:
        ValueError: a column is missing, unknown, of a type that cannot be cast, or null where it must not be. The
            message names the table, the column and what was expected.
    """
    name = (schema.metadata or {}).get(b"table", b"table").decode()
    unknown = [column for column in table.column_names if column not in schema.names]
    if unknown:
        raise ValueError(f"{name}: unknown column {unknown[0]!r}; the schema has {', '.join(schema.names)}")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise ValueError(f"{name}: column {field.name!r} ({field.type}) is missing")
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowException as error:
                raise ValueError(
                    f"{name}: column {field.name!r} is {table.column(field.name).type}, expected {field.type} ({error})"
                ) from error
        if not field.nullable and column.null_count:
            raise ValueError(f"{name}: column {field.name!r} has {column.null_count} nulls and must have none")
        columns.append(column)
    return pa.table(columns, schema=schema)
