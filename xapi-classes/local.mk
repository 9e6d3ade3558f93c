# The data model and the classes' behaviour: part of the front.

# The data model: tables made of the rows (one file for each class), and what is derived from them.
libfront_a_SOURCES += \
	xapi-classes/model/expr.c xapi-classes/model/expr.h xapi-classes/model/generic.c \
	xapi-classes/model/generic_list.c xapi-classes/model/generic_list.h xapi-classes/model/model.h \
	xapi-classes/model/model_describe.c xapi-classes/model/model_implicit.c xapi-classes/model/model_lookup.c \
	xapi-classes/model/model_private.h xapi-classes/model/model_rows.h xapi-classes/model/model_tables.c \
	xapi-classes/model/model_types.c
EXTRA_DIST += \
	xapi-classes/model/ACMPolicy.def xapi-classes/model/Bond.def xapi-classes/model/Certificate.def \
	xapi-classes/model/Cluster.def xapi-classes/model/Cluster_host.def xapi-classes/model/DPCI.def \
	xapi-classes/model/DR_task.def xapi-classes/model/DSCSI.def xapi-classes/model/DSCSI_HBA.def \
	xapi-classes/model/Feature.def xapi-classes/model/GPU_group.def xapi-classes/model/LVHD.def \
	xapi-classes/model/Observer.def xapi-classes/model/PBD.def xapi-classes/model/PCI.def \
	xapi-classes/model/PGPU.def xapi-classes/model/PIF.def xapi-classes/model/PIF_metrics.def \
	xapi-classes/model/PPCI.def xapi-classes/model/PSCSI.def xapi-classes/model/PSCSI_HBA.def \
	xapi-classes/model/PUSB.def xapi-classes/model/PVS_cache_storage.def xapi-classes/model/PVS_proxy.def \
	xapi-classes/model/PVS_server.def xapi-classes/model/PVS_site.def xapi-classes/model/Repository.def \
	xapi-classes/model/SDN_controller.def xapi-classes/model/SM.def xapi-classes/model/SR.def \
	xapi-classes/model/USB_group.def xapi-classes/model/VBD.def xapi-classes/model/VBD_metrics.def \
	xapi-classes/model/VDI.def xapi-classes/model/VGPU.def xapi-classes/model/VGPU_type.def \
	xapi-classes/model/VIF.def xapi-classes/model/VIF_metrics.def xapi-classes/model/VLAN.def \
	xapi-classes/model/VM.def xapi-classes/model/VMPP.def xapi-classes/model/VMSS.def \
	xapi-classes/model/VM_appliance.def xapi-classes/model/VM_guest_metrics.def \
	xapi-classes/model/VM_metrics.def xapi-classes/model/VTPM.def xapi-classes/model/VUSB.def \
	xapi-classes/model/XSPolicy.def xapi-classes/model/all.def xapi-classes/model/auth.def \
	xapi-classes/model/blob.def xapi-classes/model/console.def xapi-classes/model/cpu_pool.def \
	xapi-classes/model/crashdump.def xapi-classes/model/data_source.def xapi-classes/model/debug.def \
	xapi-classes/model/errors.def xapi-classes/model/event.def xapi-classes/model/host.def \
	xapi-classes/model/host_cpu.def xapi-classes/model/host_crashdump.def xapi-classes/model/host_metrics.def \
	xapi-classes/model/host_patch.def xapi-classes/model/message.def xapi-classes/model/network.def \
	xapi-classes/model/network_sriov.def xapi-classes/model/pool.def xapi-classes/model/pool_patch.def \
	xapi-classes/model/pool_update.def xapi-classes/model/probe_result.def xapi-classes/model/role.def \
	xapi-classes/model/secret.def xapi-classes/model/session.def xapi-classes/model/sr_stat.def \
	xapi-classes/model/subject.def xapi-classes/model/task.def xapi-classes/model/templates.def \
	xapi-classes/model/tunnel.def xapi-classes/model/user.def xapi-classes/model/vdi_nbd_server_info.def

# The classes' behaviour: host, pool, sessions, tasks, networks and what is the host's alone.
libfront_a_SOURCES += \
	xapi-classes/absent.c xapi-classes/ask_auth.h xapi-classes/auth.c xapi-classes/blob.c \
	xapi-classes/certificate.c xapi-classes/cpu_pool.c xapi-classes/cpu_pool.h xapi-classes/cpu_pool_world.c xapi-classes/data_source.c \
	xapi-classes/handlers.h xapi-classes/host.c xapi-classes/host_machine.c \
	xapi-classes/host_records.c xapi-classes/message.c xapi-classes/message.h xapi-classes/network.c \
	xapi-classes/pool.c xapi-classes/role.c xapi-classes/rrd.c xapi-classes/rrd.h xapi-classes/session.c \
	xapi-classes/sim_fill.c xapi-classes/start.c xapi-classes/start.h xapi-classes/subject.c \
	xapi-classes/task.c xapi-classes/world.c xapi-classes/world.h

# VMs: their life, their devices, what may be done when.
libfront_a_SOURCES += \
	xapi-classes/vm/console.c xapi-classes/vm/crashdump.c xapi-classes/vm/crashdump.h \
	xapi-classes/vm/operation.c xapi-classes/vm/operation.h xapi-classes/vm/operation_appliance.c \
	xapi-classes/vm/operation_devices.c xapi-classes/vm/operation_private.h xapi-classes/vm/run_message.c \
	xapi-classes/vm/run_message.h xapi-classes/vm/template.c xapi-classes/vm/vbd.c xapi-classes/vm/vbd_qos.c xapi-classes/vm/vif.c \
	xapi-classes/vm/vm.c xapi-classes/vm/vm.h xapi-classes/vm/vm_appliance.c xapi-classes/vm/vm_ask.c \
	xapi-classes/vm/vm_autostart.c xapi-classes/vm/vm_checkpoint.c xapi-classes/vm/vm_clone.c \
	xapi-classes/vm/vm_config.c xapi-classes/vm/vm_create.c xapi-classes/vm/vm_data_source.c \
	xapi-classes/vm/vm_device.c xapi-classes/vm/vm_disks.c xapi-classes/vm/vm_foreign.c \
	xapi-classes/vm/vm_foreign.h xapi-classes/vm/vm_memory.c xapi-classes/vm/vm_memory_vdi.c xapi-classes/vm/vm_metrics.c \
	xapi-classes/vm/vm_place.c xapi-classes/vm/vm_power.c xapi-classes/vm/vm_provision.c \
	xapi-classes/vm/vm_recover.c xapi-classes/vm/vm_revert.c xapi-classes/vm/vm_start.c \
	xapi-classes/vm/vm_state.c xapi-classes/vm/vm_stop.c xapi-classes/vm/vm_stop.h \
	xapi-classes/vm/vm_suspend.c xapi-classes/vm/vm_twin.c xapi-classes/vm/vm_twin.h \
	xapi-classes/vm/vm_vcpus.c xapi-classes/vm/vm_watch.c xapi-classes/vm/vmss.c xapi-classes/vm/vmss.h \
	xapi-classes/vm/vmss_run.c

# Storage repositories and disks.
libfront_a_SOURCES += \
	xapi-classes/storage/pbd.c xapi-classes/storage/sr.c xapi-classes/storage/storage.c \
	xapi-classes/storage/storage_coalesce.c \
	xapi-classes/storage/storage.h xapi-classes/storage/storage_draft.c xapi-classes/storage/storage_driver.c \
	xapi-classes/storage/storage_image.c xapi-classes/storage/storage_start.c xapi-classes/storage/vdi.c \
	xapi-classes/storage/vdi.h xapi-classes/storage/vdi_cbt.c xapi-classes/storage/vdi_delta.c \
	xapi-classes/storage/vdi_freeze.c xapi-classes/storage/vdi_migrate.c xapi-classes/storage/vdi_nbd.c

# What passes over HTTP beside calls: disks, VMs, dumps, figures, screens, consoles, NBD.
libfront_a_SOURCES += \
	xapi-classes/transfers/blob_data.c xapi-classes/transfers/blob_data.h xapi-classes/transfers/disk.c \
	xapi-classes/transfers/disk.h xapi-classes/transfers/disk_map.c xapi-classes/transfers/disk_map.h \
	xapi-classes/transfers/disk_queue.c xapi-classes/transfers/disk_queue.h xapi-classes/transfers/dump.h \
	xapi-classes/transfers/dump_read.c xapi-classes/transfers/dump_restore.c \
	xapi-classes/transfers/dump_write.c xapi-classes/transfers/image_io.h xapi-classes/transfers/nbd_export.c \
	xapi-classes/transfers/nbd_handshake.c xapi-classes/transfers/nbd_server.c \
	xapi-classes/transfers/nbd_server.h xapi-classes/transfers/nbd_stream.c \
	xapi-classes/transfers/nbd_stream.h xapi-classes/transfers/qcow2.c xapi-classes/transfers/qcow2.h \
	xapi-classes/transfers/qcow2_in.c xapi-classes/transfers/rfb.c xapi-classes/transfers/rfb.h \
	xapi-classes/transfers/transfer.c xapi-classes/transfers/transfer.h \
	xapi-classes/transfers/transfer_console.c xapi-classes/transfers/transfer_disk.h \
	xapi-classes/transfers/transfer_dump.c xapi-classes/transfers/transfer_export.c \
	xapi-classes/transfers/transfer_image.c xapi-classes/transfers/transfer_import.c \
	xapi-classes/transfers/transfer_qcow2.c xapi-classes/transfers/transfer_raw.c \
	xapi-classes/transfers/transfer_rrd.c xapi-classes/transfers/transfer_vhd.c xapi-classes/transfers/vhd.c \
	xapi-classes/transfers/vhd.h xapi-classes/transfers/vhd_in.c xapi-classes/transfers/websocket.c \
	xapi-classes/transfers/websocket.h xapi-classes/transfers/xva.h xapi-classes/transfers/xva_ova.c \
	xapi-classes/transfers/xva_records.c xapi-classes/transfers/xva_stream.c xapi-classes/transfers/xva_tar.c \
	xapi-classes/transfers/xva_tar.h
