//! One space's database: open, pool, migrations, tables.
