#!/usr/bin/env bash
# Builds the kernels and their tests for aarch64 and runs them under qemu: NEON, on any machine.
# Needs: g++-aarch64-linux-gnu, qemu-user and libgtest-dev, which holds the sources of GoogleTest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

googletest=${GOOGLETEST:-/usr/src/googletest/googletest}
for command in aarch64-linux-gnu-g++ qemu-aarch64; do
  if ! command -v "$command" >/dev/null; then
    echo "skipped: no $command (apt-get install g++-aarch64-linux-gnu qemu-user)"
    exit 0
  fi
done
if [[ ! -f $googletest/src/gtest-all.cc ]]; then
  echo "skipped: no sources of GoogleTest at $googletest (apt-get install libgtest-dev)"
  exit 0
fi

out=build/aarch64
mkdir -p "$out"
compile() { # object, source, flags
  if [[ ! -e $out/$1 || $(find cpp/e2eio/base cpp/e2eio/kernels "$2" -newer "$out/$1" -print -quit) ]]; then
    aarch64-linux-gnu-g++ -std=c++20 -O2 -ffp-contract=off -Icpp "${@:3}" -c "$2" -o "$out/$1"
  fi
}
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Wundef -Werror)

compile gtest.o "$googletest/src/gtest-all.cc" -I"$googletest" -I"$googletest/include"
compile gtest_main.o "$googletest/src/gtest_main.cc" -I"$googletest/include"
objects=("$out/gtest.o" "$out/gtest_main.o")
for source in cpp/e2eio/kernels/*.cpp cpp/e2eio/base/error.cpp; do
  object=$(basename "$source" .cpp).o
  compile "$object" "$source" "${warnings[@]}"
  objects+=("$out/$object")
done
for test in kernels kernel_sets; do
  compile "${test}_test.o" "tests/cpp/${test}_test.cpp" "${warnings[@]}" -isystem "$googletest/include"
  aarch64-linux-gnu-g++ "${objects[@]}" "$out/${test}_test.o" -lpthread -o "$out/${test}_test"
  run=(qemu-aarch64 -L /usr/aarch64-linux-gnu "$out/${test}_test")
  "${run[@]}" --gtest_brief=1
  "${run[@]}" --gtest_list_tests | grep -c /neon
done
