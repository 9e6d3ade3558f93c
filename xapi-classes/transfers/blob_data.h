/* blob_data.h - the bytes of blobs: a file for each in the state directory, named by the blob's uuid. */
#ifndef XENAPID_BLOB_DATA_H
#define XENAPID_BLOB_DATA_H

/* Of a blob that is no more. */
void blob_data_remove(const char *uuid);

#endif
