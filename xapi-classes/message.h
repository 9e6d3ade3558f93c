/* message.h - alerts that the daemon itself has for the administrator. */
#ifndef XENAPID_MESSAGE_H
#define XENAPID_MESSAGE_H

/* cls is the class of the object of that uuid; priority 1 is the most urgent, 5 is for information. */
void message_post(const char *name, int priority, const char *cls, const char *obj_uuid, const char *body);

#endif
