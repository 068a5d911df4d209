# The three servers, each with the same functions: describe_, claim_ports_of_, end_stray_, start_, await_, prepare, stop_. Sourced.
# shellcheck shell=bash
. "$LOCAL/dists.sh"

ANSWER_SECONDS=180 # for a server to answer: seconds on an idle machine, but this one may be compiling
STOP_SECONDS=60

find_java() {
  local version
  sound_java_home
  version=$(java_version)
  if ((version == 0)); then fail "There is no Java, which Kafka and the registry need." "\`make prerequisites\` installs it."; fi
  JAVA=$(java_program)
  ((version >= OLDEST_JAVA)) || fail "$JAVA is Java $version; Kafka and the registry need $OLDEST_JAVA or later." "\`make prerequisites\` installs one; JAVA_HOME chooses among several."
}

# ---- PostgreSQL ----

# It refuses to run as root. There it runs as `postgres`, in a folder that this user gets to.
make_postgres_user() {
  if [ "$(id -u)" = 0 ] && ! id -u postgres >/dev/null 2>&1; then
    say "PostgreSQL does not run as root: making the system user postgres for it."
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin postgres
  fi
}
find_postgres_user() {
  AS_POSTGRES=()
  POSTGRES_DATA=$DATA/postgres
  { [ "$(id -u)" = 0 ] && id -u postgres >/dev/null 2>&1; } || return 0
  AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  if ! reachable_by_postgres "$DATA"; then
    POSTGRES_DATA=/var/lib/quadrille/$(basename -- "$ROOT")-$(printf %s "$ROOT" | sha256sum | cut -c1-8)
  fi
}

# Whether the database's user gets to a folder, or to the nearest parent of it that exists.
reachable_by_postgres() {
  local folder=$1
  until [ -e "$folder" ]; do folder=$(dirname "$folder"); done
  "${AS_POSTGRES[@]}" test -x "$folder"
}

describe_postgres() { printf '%s\n' "$POSTGRES_BIN" "$POSTGRES_DATA" "port=$POSTGRES_PORT" "$(<"$LOCAL/postgresql.conf")"; }
claim_ports_of_postgres() { claim_port "$POSTGRES_PORT" QUADRILLE_POSTGRES_PORT PostgreSQL; }
end_stray_postgres() { if adopt postgres postgres "$POSTGRES_DATA"; then stop_postgres; fi; }

start_postgres() {
  if [ ! -d "$POSTGRES_DATA" ]; then make_postgres_data; fi
  [ "$(<"$POSTGRES_DATA/PG_VERSION")" = "${POSTGRES_VERSION%%.*}" ] ||
    fail "The data in $POSTGRES_DATA are of PostgreSQL $(<"$POSTGRES_DATA/PG_VERSION"), not ${POSTGRES_VERSION%%.*}." "\`make clean\` removes them, with all else in .run."
  free_postgres_data
  "${AS_POSTGRES[@]}" cp /dev/stdin "$POSTGRES_DATA/postgresql.conf" <"$LOCAL/postgresql.conf"
  start postgres "${AS_POSTGRES[@]}" "$POSTGRES_BIN/postgres" -D "$POSTGRES_DATA" -p "$POSTGRES_PORT"
  settings postgres "$(describe_postgres)"
}

make_postgres_data() {
  local new=$POSTGRES_DATA.new owner=()
  rm -rf "$new" "$new.password"
  mkdir -p "$(dirname "$POSTGRES_DATA")"
  if [ "$(id -u)" = 0 ]; then owner=(-o postgres -g postgres); fi
  install -d -m 700 "${owner[@]}" "$new"
  install -m 600 "${owner[@]}" /dev/stdin "$new.password" <<<"$PASSWORD"
  "${BARE[@]}" "${AS_POSTGRES[@]}" "$POSTGRES_BIN/initdb" -D "$new" --username=postgres --auth=scram-sha-256 --pwfile="$new.password" \
    --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C --no-sync >"$LOGS/initdb.log" 2>&1 ||
    { show_log initdb && fail "initdb could not make the database's folder; its words are above."; }
  rm "$new.password"
  mv -T "$new" "$POSTGRES_DATA"
  if [ "$POSTGRES_DATA" != "$DATA/postgres" ]; then
    say "The user postgres cannot enter this checkout: the database's files are in $POSTGRES_DATA, linked from .run/data/postgres."
    ln -sfn "$POSTGRES_DATA" "$DATA/postgres"
  fi
}

# After a kill -9 the server's children take a moment to notice, and its lock file names a pid that another program may have by now.
free_postgres_data() {
  local deadline=$(($(now_ms) + 30000)) pids
  while pids=$(postgres_children) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086
    if (($(now_ms) > deadline)); then kill -QUIT $pids 2>/dev/null || true; fi
    sleep 0.1
  done
  rm -f "$POSTGRES_DATA/postmaster.pid"
}
# Whoever works in the data folder is the database.
postgres_children() {
  local folder
  for folder in /proc/[0-9]*/cwd; do
    if [ "$folder" -ef "$POSTGRES_DATA" ]; then folder=${folder#/proc/} && echo "${folder%/cwd}"; fi
  done
}

await_postgres() { await postgres $ANSWER_SECONDS postgres_answers; }
postgres_answers() { "$POSTGRES_BIN/pg_isready" -q -h 127.0.0.1 -p "$POSTGRES_PORT"; }

prepare_databases() {
  local service statements=()
  for service in "${SERVICES[@]}"; do statements+=(-c "\\set service $service" -f "$LOCAL/sql/service.sql"); done
  PGPASSWORD=$PASSWORD PGOPTIONS='-c client_min_messages=warning' "$POSTGRES_BIN/psql" -X -q -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres \
    -v password="$PASSWORD" -v ON_ERROR_STOP=1 -f "$LOCAL/sql/server.sql" "${statements[@]}" >/dev/null
}

stop_postgres() {
  ask_to_end postgres INT
  await_end postgres $STOP_SECONDS
} # INT: does not wait for clients to leave

# ---- Kafka ----

describe_kafka() { printf '%s\n' "$KAFKA_LIBS" "$(kafka_properties)" "$(<"$LOCAL/kafka-log4j2.xml")"; }
claim_ports_of_kafka() {
  claim_port "$KAFKA_PORT" QUADRILLE_KAFKA_PORT Kafka
  claim_port "$KAFKA_CONTROLLER_PORT" QUADRILLE_KAFKA_CONTROLLER_PORT "Kafka's controller"
  claim_port "$KAFKA_SECURED_PORT" QUADRILLE_KAFKA_SECURED_PORT "Kafka's encrypted way in"
}
end_stray_kafka() { if adopt kafka java "-Dquadrille.server=kafka@$RUN"; then stop_kafka; fi; }

# Files are named within .run, where `start` starts it: a properties file is Latin-1, log.dirs is cut at commas, and log4j takes its file's name
# for an address. Whatever letters the checkout's path has, Kafka does not see them.
kafka_properties() {
  sed -e "s,@KAFKA_PORT@,$KAFKA_PORT,; s,@KAFKA_CONTROLLER_PORT@,$KAFKA_CONTROLLER_PORT,; s,@KAFKA_SECURED_PORT@,$KAFKA_SECURED_PORT,; s,@PASSWORD@,$PASSWORD," -e "s,@KAFKA_DATA@,${1:-data/kafka}," "$LOCAL/kafka.properties"
}
# write_kafka_settings [DATA]
write_kafka_settings() {
  kafka_properties "$@" >"$DATA/kafka.properties"
  cp "$LOCAL/kafka-log4j2.xml" "$DATA/kafka-log4j2.xml"
}

start_kafka() {
  [ -d "$DATA/kafka" ] || make_kafka_data
  [ -f "$KAFKA_CERTIFICATE" ] || make_kafka_certificate
  write_kafka_settings
  start kafka "$JAVA" "-Dquadrille.server=kafka@$RUN" -Xms256m -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData -Djava.io.tmpdir="$DATA" \
    -Dlog4j2.configurationFile=data/kafka-log4j2.xml -cp "$KAFKA_LIBS/*" kafka.Kafka data/kafka.properties
  settings kafka "$(describe_kafka)"
}

# A key and a certificate for 127.0.0.1 that signs itself, by Java's own tool; and the certificate alone, for those who connect.
make_kafka_certificate() {
  local keytool store=kafka-tls.p12
  keytool=$(dirname "$(readlink -f "$JAVA")")/keytool
  rm -f "$DATA/$store"
  (cd "$DATA" && umask 077 && "${BARE[@]}" "$keytool" -genkeypair -alias kafka -keyalg RSA -keysize 2048 -validity 3650 -dname CN=127.0.0.1 \
    -ext san=ip:127.0.0.1,dns:localhost -storetype PKCS12 -keystore "$store" -storepass "$PASSWORD" &&
    "${BARE[@]}" "$keytool" -exportcert -rfc -alias kafka -keystore "$store" -storepass "$PASSWORD" -file "$KAFKA_CERTIFICATE.new") >"$LOGS/kafka-certificate.log" 2>&1 ||
    { show_log kafka-certificate && fail "keytool could not make Kafka's certificate; its words are above."; }
  mv "$KAFKA_CERTIFICATE.new" "$KAFKA_CERTIFICATE"
}

make_kafka_data() {
  local new=$DATA/kafka.new
  rm -rf "$new"
  write_kafka_settings data/kafka.new
  (cd "$RUN" && "${BARE[@]}" "$JAVA" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=data/kafka-log4j2.xml -cp "$KAFKA_LIBS/*" \
    kafka.tools.StorageTool format --standalone -t "$(new_cluster_id)" -c data/kafka.properties) >"$LOGS/kafka-format.log" 2>&1 ||
    { show_log kafka-format && fail "Kafka could not make its folder; its words are above."; }
  mv -T "$new" "$DATA/kafka"
}
# 16 bytes in URL-safe base64, not beginning like an option.
new_cluster_id() { local id=- && while [[ $id == -* ]]; do id=$(head -c 16 /dev/urandom | base64 | tr +/ -_ | tr -d =); done && echo "$id"; }

await_kafka() { await kafka $ANSWER_SECONDS kafka_answers; }
kafka_answers() { kcat -F /dev/null -b "127.0.0.1:$KAFKA_PORT" -L -m 2 2>/dev/null | grep -q '^ 1 brokers'; }

stop_kafka() {
  ask_to_end kafka
  await_end kafka $STOP_SECONDS
}

# ---- Schema registry ----

describe_registry() { printf '%s\n' "$REGISTRY_HOME" "port=$REGISTRY_PORT" "database=$POSTGRES_PORT"; }
claim_ports_of_registry() { claim_port "$REGISTRY_PORT" QUADRILLE_REGISTRY_PORT "the schema registry"; }
end_stray_registry() { if adopt registry java "-Dquadrille.server=registry@$RUN"; then stop_registry; fi; }

start_registry() {
  start registry env APICURIO_DATASOURCE_PASSWORD="$PASSWORD" "$JAVA" "-Dquadrille.server=registry@$RUN" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.io.tmpdir="$DATA" \
    -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$REGISTRY_PORT" -Dquarkus.http.access-log.enabled=false \
    -Dquarkus.log.console.format='%d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %s%e (%c{1})%n' -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=postgresql \
    -Dapicurio.datasource.url="jdbc:postgresql://127.0.0.1:$POSTGRES_PORT/apicurio" -Dapicurio.datasource.username=apicurio \
    -jar "$REGISTRY_HOME/apicurio-registry-app-$REGISTRY_VERSION-runner.jar"
  settings registry "$(describe_registry)"
}

registry_api() { echo "http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"; }
await_registry() { await registry $ANSWER_SECONDS registry_answers; }
registry_answers() { http_ok "$(registry_api)/subjects"; }

# Every subject that says nothing else may only evolve so that all its versions read one another.
prepare_registry() {
  local wanted='{"compatibility":"FULL_TRANSITIVE"}'
  ask 10 "$(registry_api)/config" | grep -q FULL_TRANSITIVE ||
    ask 10 -o /dev/null -X PUT -H 'Content-Type: application/vnd.schemaregistry.v1+json' -d "$wanted" "$(registry_api)/config"
}

stop_registry() {
  ask_to_end registry
  await_end registry $STOP_SECONDS
}
