# What the scripts of the local world share: where things are, and how processes are started, recognised, awaited and ended.
# Sourced, never run. A process is known by its pid AND the time it started, so that a pid used again by another program is never taken for ours.
# shellcheck shell=bash disable=SC2034

# ---- What is heard of the shell that calls ----

# Of its environment what docs/operating.md names, and nothing else: neither its options nor its umask, locale or other tools' settings.
# The -p in a script's first line has bash itself pass over BASH_ENV, CDPATH, options and functions; this is the rest.
set +o posix
export -n SHELLOPTS BASHOPTS
unset -v BASH_ENV ENV BASH_COMPAT CDPATH EXECIGNORE FUNCNEST TMOUT POSIXLY_CORRECT LOCPATH LANGUAGE "${!PG@}" "${!PYTHON@}"
unset -v NODE_OPTIONS NODE_PATH NODE_ENV GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY
unset -v CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR CARGO_BUILD_BUILD_DIR
export LC_ALL=C.UTF-8 HOME=${HOME:-~} # bash knows it from the machine's list of users
umask 022
# What is asked here stands on this machine; whoever downloads may go by a proxy.
no_proxy=${no_proxy:-${NO_PROXY:-}}
no_proxy=127.0.0.1,localhost${no_proxy:+,$no_proxy}
export no_proxy NO_PROXY=$no_proxy
# Processes start in a folder of their own.
[[ ${QUADRILLE_CONFIG:-/} == /* ]] || QUADRILLE_CONFIG=$PWD/$QUADRILLE_CONFIG

# Servers, services and stand-ins get this environment, and what their start names beside it. The last one has glibc give large pieces of memory
# back at once: left alone it keeps as much as the largest piece ever was, some times over.
BARE=(env -i "PATH=$PATH" "HOME=$HOME" "LC_ALL=$LC_ALL" MALLOC_MMAP_THRESHOLD_=1048576)
for name in "${!QUADRILLE_@}"; do BARE+=("$name=${!name}"); done
unset -v name

# ---- Where things are ----

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
LOCAL=$ROOT/infra/local
RUN=$ROOT/.run
DATA=$RUN/data LOGS=$RUN/log PIDS=$RUN/pid
# This checkout's own, whatever cargo's settings say: another checkout's programs are never taken for ours.
export CARGO_TARGET_DIR=$ROOT/target

SERVERS=(postgres kafka registry)
STAND_INS=(payment-provider carrier mail) # what stands for the outside world

# Everything listens on this machine only, with one password for all: a world for development, not for secrets.
PASSWORD=quadrille
KAFKA_CERTIFICATE=$DATA/kafka-tls.pem # who signs the broker's encrypted way in

# ---- What people see ----

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

say() { printf '%s\n' "$*" >&2; }
fail() {
  printf '%s%s%s\n' "$RED$BOLD" "$1" "$PLAIN" >&2
  shift
  [ $# = 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}
# usable WHAT PATH: refuses a path that some program on the way cannot take.
usable() {
  local fault=
  case $2 in
    *:*) fault="a colon, which separates folders in PATH, in cargo's variables and in Java's class path" ;;
    *[[:cntrl:]]*) fault="a line break or another control character" ;;
    *[!\ -~]*) iconv -f UTF-8 -t UTF-8 <<<"$2" >/dev/null 2>&1 || fault="bytes that are not UTF-8" ;;
  esac
  [ -z "$fault" ] || fail "The path of $1 has $fault: move it to another. It is $(printf %q "$2")"
}

now_ms() { local us=${EPOCHREALTIME//[!0-9]/}; echo $((us / 1000)); }
seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100)); }

# A name that ends in a line break is another one by now.
usable "this checkout" "$ROOT$([ "$LOCAL/lib.sh" -ef "${BASH_SOURCE[0]}" ] || printf '\n.')"

mapfile -t SERVICES < <("$LOCAL/roster")
wait "$!" # where there is no roster, the script ends

# ---- Ports: the environment's word, else what the running world was started with, else the contract's ----

PORTS=(KAFKA_PORT=9092 KAFKA_CONTROLLER_PORT=9093 KAFKA_SECURED_PORT=9094 REGISTRY_PORT=8081 POSTGRES_PORT=5433
  PAYMENT_PORT=8071 CARRIER_PORT=8072 SMTP_PORT=1025 MAIL_PORT=8025 SERVICES_PORT=9100)

default_port() {
  local entry
  for entry in "${PORTS[@]}"; do [ "${entry%=*}" != "$1" ] || echo "${entry#*=}"; done
}
differs() { [ "$(default_port "$1")" != "${!1}" ]; }

read_ports() {
  local entry name variable remembered
  for entry in "${PORTS[@]}"; do
    name=${entry%=*}
    variable=QUADRILLE_$name
    remembered=
    [ -f "$RUN/ports" ] && remembered=$(sed -n "s/^$variable=//p" "$RUN/ports")
    printf -v "$name" %s "${!variable:-${remembered:-${entry#*=}}}"
    [[ ${!name} =~ ^[1-9][0-9]{0,4}$ && ${!name} -le 65535 ]] || fail "$variable is \"${!name}\", which is not a port number."
  done
}
read_ports

remember_ports() {
  local entry
  for entry in "${PORTS[@]}"; do
    entry=${entry%=*}
    echo "QUADRILLE_$entry=${!entry}"
  done >"$RUN/ports.new"
  mv "$RUN/ports.new" "$RUN/ports"
}

# ---- One command at a time ----

# Held until the script ends. On a folder, so that no lock file is left behind; children do not inherit it (see `start`).
lock() {
  exec {LOCK}<"$LOCAL"
  flock -n "$LOCK" && return
  say "Another make is at work on this checkout's processes: waiting for it."
  flock -w 600 "$LOCK" || fail "It still is after 10 minutes: nothing was done."
}

# ---- Processes ----

# When a process started: clock ticks since boot, with the boot's id, as the kernel tells it. Fails for one that is gone or a zombie.
started_at() {
  local stat rest
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  rest=${stat##*) } # the name in parentheses may contain anything
  # shellcheck disable=SC2086
  set -- $rest
  [ "$1" != Z ] && [ "$1" != X ] && echo "${20} $(</proc/sys/kernel/random/boot_id)"
}

# The pid of one of our processes, if it is alive and is still the one that we started.
pid_of() {
  local pid
  { read -r pid <"$PIDS/$1.pid"; } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ ]] && [ "$(started_at "$pid")" = "$(cat "$PIDS/$1.started" 2>/dev/null)" ] && echo "$pid"
}

# start NAME COMMAND...: a process of its own session, with nothing of ours open but its log, and nothing of the caller's environment.
start() {
  local name=$1 pid
  shift
  [ ! -s "$LOGS/$name.log" ] || mv "$LOGS/$name.log" "$LOGS/$name.previous.log"
  (
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      ((fd <= 2)) || eval "exec $fd>&-"
    done
    cd "$RUN" || exit # a crash's dump stays with the logs
    exec setsid "${BARE[@]}" "$@" </dev/null >"$LOGS/$name.log" 2>&1
  ) &
  pid=$!
  started_at "$pid" >"$PIDS/$name.started" || true # gone already: `await` says so, with its log
  echo "$pid" >"$PIDS/$name.pid"
}

forget() { rm -f "$PIDS/$1.pid" "$PIDS/$1.started" "$PIDS/$1.settings"; }

# settings NAME TEXT...: remembers what a process was started with. changed NAME TEXT...: whether that is another thing now.
settings() { local name=$1 && shift && printf '%s\n' "$@" >"$PIDS/$name.settings"; }
changed() { local name=$1 && shift && [ "$(printf '%s\n' "$@")" != "$(cat "$PIDS/$name.settings" 2>/dev/null)" ]; }

# strays PROGRAM ARGUMENT: pids of processes that are ours by this argument though no pid file tells of them.
strays() {
  local file pid
  while read -r file; do
    pid=${file#/proc/} pid=${pid%%/*}
    [[ $(tr '\0' '\n' 2>/dev/null <"$file" | head -n 1) == *"$1" ]] && started_at "$pid" >/dev/null && echo "$pid"
  done < <(grep -lzxsF -e "$2" /proc/[0-9]*/cmdline)
  return 0
}

# adopt NAME PROGRAM ARGUMENT: notes the pid of such a stray, so that it can be stopped like any other.
adopt() {
  local pid
  pid=$(strays "$2" "$3" | head -n 1)
  [ -n "$pid" ] || return 1
  started_at "$pid" >"$PIDS/$1.started" && echo "$pid" >"$PIDS/$1.pid"
}

# ask_to_end NAME [SIGNAL], then await_end NAME SECONDS [SINCE]: kills only what did not end by itself, and says so.
ask_to_end() {
  local pid
  if pid=$(pid_of "$1"); then kill -s "${2:-TERM}" "$pid" || true; else forget "$1"; fi
}
await_end() {
  local name=$1 pid deadline=$((${3:-$(now_ms)} + $2 * 1000))
  while pid=$(pid_of "$name"); do
    if (($(now_ms) > deadline)); then
      say "$name (pid $pid) did not end within $2 s: killed. Its log: $LOGS/$name.log"
      kill -KILL "$pid" || true
      deadline=$(($(now_ms) + 5000))
    fi
    sleep 0.05
  done
  forget "$name"
}

# await NAME SECONDS COMMAND...: until the command succeeds. A process that dies or takes too long is a failure that shows its log,
# and what `explain NAME` knows, where a script has such a function.
await() {
  local name=$1 seconds=$2 deadline=$(($(now_ms) + $2 * 1000))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! pid_of "$name" >/dev/null; then
      show_log "$name"
      fail "$name ended while it was starting; the end of its log is above."
    fi
    if (($(now_ms) > deadline)); then
      show_log "$name"
      ! declare -F explain >/dev/null || explain "$name"
      fail "$name runs but did not answer within $seconds s; the end of its log is above."
    fi
    sleep 0.1
  done
}
show_log() {
  say "--- the last lines of $LOGS/$1.log"
  tail -n 30 "$LOGS/$1.log" >&2 || true
  say "---"
}

# ask SECONDS ARGUMENTS...: curl, without the caller's own settings of it.
ask() { curl -q --noproxy '*' -fsS -m "$@"; }
http_ok() { ask 2 -o /dev/null "$1"; }

# ---- Java ----

OLDEST_JAVA=17
# Refused here, or the machine's Java would be installed beside one that nobody takes.
sound_java_home() {
  [ -z "${JAVA_HOME:-}" ] || [ -x "$JAVA_HOME/bin/java" ] || fail "JAVA_HOME is $JAVA_HOME, and there is no bin/java in it: name another, or leave it unset."
}
java_program() { if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else command -v java; fi; }

# The major version, 0 where there is no Java. From the file beside it, since asking Java itself takes a while.
java_version() {
  local java version home
  java=$(java_program) && [ -x "$java" ] || { echo 0 && return; }
  home=$(dirname "$(dirname "$(readlink -f "$java")")")
  version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release" 2>/dev/null) ||
    version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
  echo "${version:-0}"
}

# ---- Who holds a port ----

# The inode and the owner's uid of each socket that listens on a port of 127.0.0.1 or of all addresses, from the kernel's own table.
listeners() {
  local addresses='^(0+|0100007F|0+FFFF00000100007F):' hex
  printf -v hex %04X "$1"
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v addresses="$addresses" -v port=":$hex$" '$4 == "0A" && $2 ~ addresses && $2 ~ port { print $10, $8 }'
}

# What listens on a port, in words; fails if nothing does.
holder_of() {
  local inode uid descriptor pid command folder found=
  while read -r inode uid; do
    found="a program of the user $(id -nu "$uid" 2>/dev/null || echo "$uid")"
    descriptor=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" -print -quit 2>/dev/null) || true # other users' folders are closed to us
    [ -n "$descriptor" ] || continue
    pid=${descriptor#/proc/} pid=${pid%%/*}
    command=$(tr '\0' ' ' <"/proc/$pid/cmdline")
    found="pid $pid: ${command:0:100}"
    folder=$(readlink "/proc/$pid/cwd")/ # where `start` starts all
    [[ $folder != */.run/* ]] || found="pid $pid of the checkout ${folder%/.run/*} (\`make down\` there ends it)"
    break
  done < <(listeners "$1")
  [ -n "$found" ] && echo "$found"
}

# claim_port NUMBER VARIABLE WHAT: notes a port that is taken; refuse_taken_ports then names them all at once.
TAKEN=()
claim_port() {
  local holder
  if holder=$(holder_of "$1"); then TAKEN+=("$1 for $3 ($2=...): held by $holder"); fi
}
refuse_taken_ports() {
  [ ${#TAKEN[@]} = 0 ] || fail "Ports that are needed are taken:" "${TAKEN[@]}" "End what holds them, or choose other ports by the variables in parentheses: $1"
}
