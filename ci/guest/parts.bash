# What the scripts of this folder share. Sourced, not run.

say() { printf 'guest: %s\n' "$*"; }
die() { printf 'guest: %s\n' "$*" >&2; exit 1; }

# fetch PACKAGE VERSION-PREFIX: the newest package of that version that the package lists know, in the current folder and
# unpacked there; never installed.
fetch() {
    local package=$1 prefix=$2 version
    version=$(apt-cache madison "$package" | awk -v p="$prefix" 'index($3, p) == 1 { print $3 }' | sort -V | tail -n1)
    [[ -n "$version" ]] || die "the package lists have no $package of version $prefix*; run ci/setup --tests, which adds what is missing of Debian's sources"
    say "fetching $package $version"
    apt-get download -qq "$package=$version" 2>/dev/null || die "$package $version could not be fetched; is the Debian mirror within reach?"
    dpkg -x ./"$package"_*.deb .
    rm ./"$package"_*.deb
}

# A bzImage carries the kernel as one compressed stream behind its own start code: find the stream by its magic and
# unpack it. What follows the stream makes the unpacker complain; the ELF header of the result decides.
unpack_kernel() {
    local image=$1 target=$2 magic tool offset
    while read -r magic tool; do
        for offset in $(LC_ALL=C grep -aboP "$magic" "$image" | cut -d: -f1); do
            tail -c "+$((offset + 1))" "$image" | $tool >"$target" 2>/dev/null || true
            [[ "$(head -c4 "$target" | tr -d '\0')" == $'\x7fELF' ]] && return 0
        done
    done <<'MAGICS'
\x02\x21\x4c\x18 lz4 -dc
\xfd7zXZ\x00 xz -dc
\x28\xb5\x2f\xfd zstd -dc
MAGICS
    die "$image is packed in a way this script does not know"
}

# with_libraries PROGRAM ROOT: the program and what it is linked with, at the same places.
with_libraries() {
    local program=$1 root=$2 library
    install -D -m755 "$program" "$root/opt/$(basename "$program")"
    { ldd "$program" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
        install -D -m755 "$(readlink -f "$library")" "$root$library"
    done
}

# packed ROOT OUT: a folder as the initial file system of a kernel takes it; several behind one another are one.
packed() {
    (cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$2.new"
    mv "$2.new" "$2"
}
