# What the programs say about themselves, made from their tables when they are built: manual pages, completion scripts,
# and the example of a config file. Instrumented builds leave it out: their programs are for tests.
add_custom_target(documents)
set(clymq_documents ${CMAKE_BINARY_DIR}/documents)
if(CLYMQ_SANITIZE OR CLYMQ_FUZZ OR CMAKE_CROSSCOMPILING)
  return()
endif()
file(MAKE_DIRECTORY ${clymq_documents})

set(clymq_pages clymq.1 clymq-sim.1 libclymq.3 clymq.conf.5 clymqd.8)
set(clymq_made)
foreach(page ${clymq_pages})
  add_custom_command(OUTPUT ${clymq_documents}/${page}
    COMMAND ${CMAKE_SOURCE_DIR}/tools/man-page ${CMAKE_SOURCE_DIR}/docs/man/${page} ${clymq_documents}/${page} ${PROJECT_VERSION}
            $<TARGET_FILE_DIR:clymqd>
    DEPENDS ${CMAKE_SOURCE_DIR}/docs/man/${page} ${CMAKE_SOURCE_DIR}/tools/man-page clymq clymqd VERBATIM)
  list(APPEND clymq_made ${clymq_documents}/${page})
endforeach()
foreach(shell bash zsh fish)
  add_custom_command(OUTPUT ${clymq_documents}/clymq.${shell}
    COMMAND clymq completion ${shell} > ${clymq_documents}/clymq.${shell} DEPENDS clymq VERBATIM)
  list(APPEND clymq_made ${clymq_documents}/clymq.${shell})
endforeach()
add_custom_command(OUTPUT ${clymq_documents}/clymq.conf
  COMMAND clymqd --print-config-example > ${clymq_documents}/clymq.conf DEPENDS clymqd VERBATIM)
list(APPEND clymq_made ${clymq_documents}/clymq.conf)
add_custom_target(clymq_documents ALL DEPENDS ${clymq_made})
add_dependencies(documents clymq_documents)
