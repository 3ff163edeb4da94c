#!/bin/sh
# tools/check-layers must find each kind of offence, name the place, and accept what is allowed.
set -eu
check=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0

# expect STATUS TEXT FILE CONTENT: a tree of FILE alone gives STATUS, and TEXT in the output.
expect() {
    rm -rf "$root/src" "$root/include"
    mkdir -p "$root/$(dirname "$3")"
    printf '%b' "$4" >"$root/$3"
    status=0
    output=$("$check" "$root" 2>&1) || status=$?
    case "$status $output" in
    "$1 "*"$2"*) ;;
    *)
        echo "FAILED: $3 with $4 gave $status: $output"
        failures=$((failures + 1))
        ;;
    esac
}

expect 0 '' src/store/block.c '#include "store/block.h"\n#include "io/file.h"\n#include <stdio.h>\n'
expect 0 '' src/store/block.c '/* no #include "broker/x.h" here */\n'
expect 1 'src/store/block.c:2: src/store may not include src/broker' src/store/block.c '\n#include "broker/push.h"\n'
expect 1 'src/base may not include src/io' src/base/map.h '#  include  "io/file.h"\n'
expect 1 'src/raft may not include src/io' src/raft/core.c '#include "io/file.h"\n'
expect 0 '' src/raft/core.c '#include "base/error.h"\n'
expect 1 'src/client may not include src/store' src/client/producer.c '#include "store/block.h"\n'
expect 1 'src/client may not include src/broker' src/client/producer.c '#include "broker/push.h"\n'
expect 0 '' src/client/producer.c '#include "net/connection.h"\n#include "clymq.h"\n'
expect 0 '' src/cli/dump.c '#include "store/block.h"\n#include "client/producer.h"\n'
expect 1 'src/cli may not include src/partition' src/cli/dump.c '#include "partition/chain.h"\n'
expect 0 '' src/server/main.c '#include "broker/push.h"\n'
expect 1 'src/server may not include src/sim' src/server/main.c '#include "sim/world.h"\n'
expect 0 '' src/sim/world.c '#include "broker/push.h"\n#include "client/producer.h"\n'
expect 1 'only client, cli and sim' src/broker/push.c '#include <clymq.h>\n'
expect 1 'as "folder/file.h"' src/store/block.c '#include "block.h"\n'
expect 1 'as "folder/file.h"' src/store/block.c '#include "../io/file.h"\n'
expect 1 'only the headers of the C standard' include/clymq.h '#include "base/error.h"\n'
expect 1 'only the headers of the C standard' include/clymq.h '#include <uv.h>\n'
expect 0 '' include/clymq.h '#include <stdint.h>\n'
expect 1 'src/fancy is in no layer' src/fancy/x.c '\n'
expect 1 'named after its one noun' src/store/util.c '\n'
expect 1 'named after its one noun' src/store/common.h '\n'
expect 0 '' src/store/utility_area.c '\n'
expect 0 '' src/store/long.c "$(yes '\n' | head -n 900 | tr -d '\n')"
expect 1 '901 lines' src/store/long.c "$(yes '\n' | head -n 901 | tr -d '\n')"
rm -rf "$root/src" "$root/include"
if "$check" "$root" >/dev/null 2>&1; then
    echo "FAILED: a tree without sources is accepted"
    failures=$((failures + 1))
fi
[ "$failures" = 0 ] && echo "all checks as expected"
exit "$((failures != 0))"
