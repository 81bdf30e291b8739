//go:build !cgo

package needcgo

// SQLite is C code: install a C compiler (apt-get install gcc, apk add gcc musl-dev,
// xcode-select --install) and build with CGO_ENABLED=1.
var _ = switchhook_needs_a_C_compiler__install_gcc_and_build_with_CGO_ENABLED_1
