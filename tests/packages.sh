# packages.sh - the Debian 12 packages that building, running and testing need; sourced by ./run, ./test and .ci/run.
BUILD_PACKAGES="gcc make autoconf automake pkg-config libc6-dev libglib2.0-dev libxml2-dev libmicrohttpd-dev
    libgnutls28-dev libsqlite3-dev libpam0g-dev libsystemd-dev zlib1g-dev libzstd-dev libnbd-dev qemu-utils"
# The demo's and the tests' logins go through PAM with pam_matrix, of libpam-wrapper.
RUN_PACKAGES="libpam-wrapper openssl"
TEST_PACKAGES="python3 procps curl ruby ruby-xmlrpc python3-os-xenapi nodejs npm sqlite3 gnutls-bin libnbd-bin libjansson-dev man-db mandoc nftables
    iproute2"
CHECK_PACKAGES="libxen-dev clang clang-format libclang-rt-14-dev llvm libxmlrpc-core-c3-dev systemd"

# Installs those of its arguments that are missing, as root or through sudo.
install_packages()
{
    missing=
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    # A Node.js that is there already, from wherever, will do.
    if command -v node >/dev/null && command -v npm >/dev/null; then
        missing=$(echo " $missing " | sed 's/ nodejs / /; s/ npm / /')
    fi
    [ -n "$(echo $missing)" ] || return 0
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "Missing packages, and no sudo to install them:$missing" >&2; return 1; }
        sudo=sudo
    fi
    echo "Installing:$missing"
    $sudo apt-get update -qq &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Configures (once) and builds the tree in directory $1 with further configure arguments.
build_tree()
{
    dir=$1
    shift
    [ -x configure ] || ./bootstrap >/dev/null
    mkdir -p "$dir"
    [ -f "$dir/Makefile" ] || (cd "$dir" && "$OLDPWD/configure" -q "$@")
    make -s -C "$dir" -j"$(nproc)"
}
