# The six services and the stand-ins for the outside world: how each is started, where it answers, what it is told. Sourced.
# shellcheck shell=bash disable=SC2034

READY_SECONDS=90
END_SECONDS=10 # what a service has to finish what it holds

binary_of() {
  case $1 in
    payment-provider | carrier | mail) echo "$ROOT/target/debug/quadrille-stand-ins" ;;
    *) echo "$ROOT/target/debug/quadrille-$1" ;;
  esac
}
# One a line. The outside remembers what it did whatever happens to it, so each stand-in keeps a file.
arguments_of() {
  local bind
  bind=127.0.0.1:$(port_of "$1")
  case $1 in
    payment-provider) printf '%s\n' payment --bind "$bind" --state "$DATA/$1" ;;
    carrier) printf '%s\n' carrier --bind "$bind" --state "$DATA/$1" ;;
    mail) printf '%s\n' mail --bind "$bind" --smtp-bind "127.0.0.1:$SMTP_PORT" --state "$DATA/$1" ;;
  esac
}

# port_of NAME: where its HTTP side listens. The services' ports follow their place in SERVICES: 9101, 9102, ...
port_of() {
  local i
  case $1 in
    payment-provider) echo "$PAYMENT_PORT" ;;
    carrier) echo "$CARRIER_PORT" ;;
    mail) echo "$MAIL_PORT" ;;
    *) for i in "${!SERVICES[@]}"; do [ "${SERVICES[i]}" != "$1" ] || echo $((SERVICES_PORT + i + 1)); done ;;
  esac
}
port_variable() {
  case $1 in
    payment-provider) echo QUADRILLE_PAYMENT_PORT ;;
    carrier | mail) echo "QUADRILLE_${1^^}_PORT" ;;
    *) echo QUADRILLE_SERVICES_PORT ;;
  esac
}
health_of() {
  case $1 in
    payment-provider | carrier | mail) echo "http://127.0.0.1:$(port_of "$1")/health" ;;
    *) echo "http://127.0.0.1:$(port_of "$1")/health/ready" ;;
  esac
}
answers() { http_ok "$(health_of "$1")"; }

# The world's addresses as the platform's configuration knows them: all of them, so that a shell that is set up for another world leads nobody there.
# For a service (service_world NAME), and for the command line and the tests (tools_world).
world() {
  echo "QUADRILLE__KAFKA__BROKERS=127.0.0.1:$KAFKA_PORT"
  echo "QUADRILLE__REGISTRY__URL=http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"
}
service_world() {
  world
  echo "QUADRILLE__DATABASE__URL=postgres://quadrille_$1:$PASSWORD@127.0.0.1:$POSTGRES_PORT/quadrille_$1"
  echo "QUADRILLE__DATABASE__MIGRATE_URL=postgres://quadrille_${1}_migrator:$PASSWORD@127.0.0.1:$POSTGRES_PORT/quadrille_$1"
  echo "QUADRILLE__HTTP__BIND=127.0.0.1:$(port_of "$1")"
  case $1 in
    payment) echo "QUADRILLE__OUTSIDE__URL=http://127.0.0.1:$PAYMENT_PORT" ;;
    shipping) echo "QUADRILLE__OUTSIDE__URL=http://127.0.0.1:$CARRIER_PORT" ;;
    notification) echo "QUADRILLE__OUTSIDE__URL=smtp://127.0.0.1:$SMTP_PORT" ;;
  esac
}
tools_world() {
  local entry name
  world
  echo "QUADRILLE__DATABASE__BASE_URL=postgres://quadrille_audit:$PASSWORD@127.0.0.1:$POSTGRES_PORT"
  echo "QUADRILLE_TEST_DATABASE_URL=postgres://quadrille_test:$PASSWORD@127.0.0.1:$POSTGRES_PORT/postgres"
  echo "QUADRILLE_TEST_KAFKA_CERTIFICATE=$KAFKA_CERTIFICATE"
  echo "QUADRILLE__TOOLS__PROVIDER_URL=http://127.0.0.1:$PAYMENT_PORT"
  for entry in "${PORTS[@]}"; do
    name=${entry%=*}
    echo "QUADRILLE_$name=${!name}"
  done
}

stop_services() {
  local name began
  began=$(now_ms)
  for name in "${SERVICES[@]}"; do ask_to_end "$name"; done
  for name in "${SERVICES[@]}"; do await_end "$name" "$END_SECONDS" "$began"; done
  began=$(now_ms)
  for name in "${STAND_INS[@]}"; do ask_to_end "$name"; done
  for name in "${STAND_INS[@]}"; do await_end "$name" "$END_SECONDS" "$began"; done
}
