#!/bin/sh
# Run once by the image on an empty volume: a database and a user each for Polaris and Dagster, who see no other's.
set -eu
for name in polaris dagster; do
    secret=$(eval "echo \"\$$(echo "$name" | tr a-z A-Z)_DB_SECRET\"")
    # the secret is passed as a variable, so that nothing in it is SQL
    psql -v ON_ERROR_STOP=1 -v name="$name" -v secret="$secret" -U postgres <<'SQL'
create user :"name" password :'secret';
create database :"name" owner :"name";
revoke connect on database :"name" from public;
SQL
done
