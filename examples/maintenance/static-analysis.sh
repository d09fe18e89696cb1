#!/bin/sh
# static-analysis.sh TASK FOLDER: what cppcheck says about the C files of one folder.
set -eu
. "$(dirname "$0")/report.sh"
need cppcheck
# jansson's loops, in a form that cppcheck understands without jansson's headers
array_loop='json_array_foreach(array,index,value)=if(((index)=0,(value)=json_array_get(array,0)))'
object_loop='json_object_foreach(object,key,value)=if(((key)="",(value)=json_object_get(object,"")))'
findings=$(cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr -I src \
	-D_GNU_SOURCE "-D$array_loop" "-D$object_loop" --suppress=missingIncludeSystem \
	--template='{file}:{line}: {severity}: {message} [{id}]' "$2" 2>&1)
printf '%s\n' "$findings" | grep -v '^$' | sort -u | write_report "$1" "cppcheck of $2"
