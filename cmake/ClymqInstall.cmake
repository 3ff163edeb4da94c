# libclymq as others link it, and what `cmake --install` puts where: the shared library, the static one, the header, the
# pkg-config file, the CMake package, the programs, their documents and the systemd unit.

# The shared library holds everything of ours that it needs; only clymq_… is visible (visibility attributes in the header, and
# a version script for the archives' sake).
file(GLOB clymq_client_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/client/*.c)
set(clymq_client_parts clymq_net clymq_wire clymq_shard clymq_io clymq_base)
add_library(libclymq SHARED ${clymq_client_sources})
add_library(clymq::clymq ALIAS libclymq)
target_include_directories(libclymq PRIVATE ${CMAKE_SOURCE_DIR}/src
                           PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(libclymq PRIVATE ${clymq_client_parts} PkgConfig::jansson)
target_link_options(libclymq PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/libclymq.map)
set_target_properties(libclymq PROPERTIES OUTPUT_NAME clymq EXPORT_NAME clymq VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/libclymq.map
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

# The static library: one object of all parts, in which hidden symbols are made local, so that a program's own functions cannot
# clash with ours.
set(clymq_archive ${CMAKE_BINARY_DIR}/lib/libclymq.a)
set(clymq_object ${CMAKE_BINARY_DIR}/lib/libclymq.o)
set(clymq_archives)
foreach(part ${clymq_client_parts})
  list(APPEND clymq_archives $<TARGET_FILE:${part}>)
endforeach()
add_custom_command(
  OUTPUT ${clymq_archive}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/lib
  COMMAND ${CMAKE_LINKER} -r -o ${clymq_object} --whole-archive $<TARGET_FILE:clymq_client> --no-whole-archive
          --start-group ${clymq_archives} --end-group
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${clymq_object}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${clymq_archive}
  COMMAND ${CMAKE_AR} rcs ${clymq_archive} ${clymq_object}
  DEPENDS clymq_client ${clymq_client_parts}
  COMMENT "Linking C static library lib/libclymq.a"
  VERBATIM)
add_custom_target(libclymq_static ALL DEPENDS ${clymq_archive})

# From the file itself, so that `cmake --install --prefix` and moved trees are right.
file(RELATIVE_PATH clymq_pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_SOURCE_DIR}/cmake/clymq.pc.in ${CMAKE_BINARY_DIR}/clymq.pc @ONLY)
include(CMakePackageConfigHelpers)
set(clymq_package ${CMAKE_INSTALL_LIBDIR}/cmake/clymq)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/clymqConfig.cmake.in ${CMAKE_BINARY_DIR}/clymqConfig.cmake
                              INSTALL_DESTINATION ${clymq_package} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/clymqConfigVersion.cmake COMPATIBILITY SameMinorVersion)

# Components as the packages are: library (to run), development, server with all programs.
install(TARGETS libclymq EXPORT clymqTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development)
install(EXPORT clymqTargets NAMESPACE clymq:: DESTINATION ${clymq_package} COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/clymqConfig.cmake ${CMAKE_BINARY_DIR}/clymqConfigVersion.cmake
        DESTINATION ${clymq_package} COMPONENT development)
install(FILES ${clymq_archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES ${CMAKE_SOURCE_DIR}/include/clymq.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/clymq.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(TARGETS clymq clymqd clymq-sim RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT server)

if(TARGET clymq_documents)
  foreach(page ${clymq_pages})
    string(REGEX MATCH "[0-9]$" section ${page})
    set(component server)
    if(section EQUAL 3)
      set(component development)
    endif()
    install(FILES ${clymq_documents}/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
  endforeach()
  install(FILES ${clymq_documents}/clymq.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME clymq
          COMPONENT server)
  install(FILES ${clymq_documents}/clymq.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _clymq
          COMPONENT server)
  install(FILES ${clymq_documents}/clymq.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT server)
  install(FILES ${clymq_documents}/clymq.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT server)
endif()
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT server)
install(FILES ${CMAKE_SOURCE_DIR}/idl/clymq.thrift DESTINATION ${CMAKE_INSTALL_DATADIR}/clymq COMPONENT development)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/clymq.sysusers DESTINATION lib/sysusers.d RENAME clymq.conf COMPONENT server)
# The unit names the program's place, which `cmake --install --prefix` may change.
install(CODE "
  set(BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
  configure_file(\"${CMAKE_SOURCE_DIR}/packaging/clymqd.service.in\"
                 \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/clymqd.service\" @ONLY)" COMPONENT server)
