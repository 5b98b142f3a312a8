# Finds liburing and defines the imported target Liburing::Liburing. Debian's package ships no CMake config.
find_path(Liburing_INCLUDE_DIR NAMES liburing.h)
find_library(Liburing_LIBRARY NAMES uring)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  Liburing
  REQUIRED_VARS Liburing_LIBRARY Liburing_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "install liburing-dev (Debian, Ubuntu), liburing-devel (Fedora) or liburing (conda)")
if(Liburing_FOUND AND NOT TARGET Liburing::Liburing)
  add_library(Liburing::Liburing UNKNOWN IMPORTED)
  set_target_properties(Liburing::Liburing PROPERTIES IMPORTED_LOCATION "${Liburing_LIBRARY}"
                                                      INTERFACE_INCLUDE_DIRECTORIES "${Liburing_INCLUDE_DIR}")
endif()
