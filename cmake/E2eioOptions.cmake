# Warnings, hardening and sanitizers as one INTERFACE target that every target of ours links.
add_library(e2eio_options INTERFACE)
target_compile_options(
  e2eio_options
  INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Wnon-virtual-dtor -Wundef
            -fstack-protector-strong)
if(E2EIO_WERROR)
  target_compile_options(e2eio_options INTERFACE -Werror)
endif()
if(E2EIO_SANITIZE)
  target_compile_options(e2eio_options INTERFACE -fsanitize=${E2EIO_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(e2eio_options INTERFACE -fsanitize=${E2EIO_SANITIZE})
endif()
