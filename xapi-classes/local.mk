# The data model (tables and what is derived from them) and the classes' behaviour: part of the front.
libfront_a_SOURCES += \
	xapi-classes/model.h xapi-classes/model_private.h xapi-classes/model_rows.h xapi-classes/handlers.h \
	xapi-classes/model_tables.c xapi-classes/model_types.c xapi-classes/model_implicit.c \
	xapi-classes/model_lookup.c xapi-classes/model_describe.c xapi-classes/generic.c \
	xapi-classes/generic_list.c xapi-classes/generic_list.h \
	xapi-classes/expr.c xapi-classes/expr.h

# The rows; one file for each class.
EXTRA_DIST += \
	xapi-classes/all.def xapi-classes/errors.def xapi-classes/templates.def xapi-classes/ACMPolicy.def xapi-classes/Bond.def \
	xapi-classes/Certificate.def xapi-classes/Cluster.def xapi-classes/Cluster_host.def xapi-classes/DPCI.def \
	xapi-classes/DR_task.def xapi-classes/DSCSI.def xapi-classes/DSCSI_HBA.def xapi-classes/Feature.def \
	xapi-classes/GPU_group.def xapi-classes/LVHD.def xapi-classes/Observer.def xapi-classes/PBD.def \
	xapi-classes/PCI.def xapi-classes/PGPU.def xapi-classes/PIF.def xapi-classes/PIF_metrics.def \
	xapi-classes/PPCI.def xapi-classes/PSCSI.def xapi-classes/PSCSI_HBA.def xapi-classes/PUSB.def \
	xapi-classes/PVS_cache_storage.def xapi-classes/PVS_proxy.def xapi-classes/PVS_server.def \
	xapi-classes/PVS_site.def xapi-classes/Repository.def xapi-classes/SDN_controller.def xapi-classes/SM.def \
	xapi-classes/SR.def xapi-classes/USB_group.def xapi-classes/VBD.def xapi-classes/VBD_metrics.def \
	xapi-classes/VDI.def xapi-classes/VGPU.def xapi-classes/VGPU_type.def xapi-classes/VIF.def \
	xapi-classes/VIF_metrics.def xapi-classes/VLAN.def xapi-classes/VM.def xapi-classes/VMPP.def \
	xapi-classes/VMSS.def xapi-classes/VM_appliance.def xapi-classes/VM_guest_metrics.def \
	xapi-classes/VM_metrics.def xapi-classes/VTPM.def xapi-classes/VUSB.def xapi-classes/XSPolicy.def \
	xapi-classes/auth.def xapi-classes/blob.def xapi-classes/console.def xapi-classes/cpu_pool.def \
	xapi-classes/crashdump.def xapi-classes/data_source.def xapi-classes/debug.def xapi-classes/event.def \
	xapi-classes/host.def xapi-classes/host_cpu.def xapi-classes/host_crashdump.def \
	xapi-classes/host_metrics.def xapi-classes/host_patch.def xapi-classes/message.def xapi-classes/network.def \
	xapi-classes/network_sriov.def xapi-classes/pool.def xapi-classes/pool_patch.def \
	xapi-classes/pool_update.def xapi-classes/probe_result.def xapi-classes/role.def xapi-classes/secret.def \
	xapi-classes/session.def xapi-classes/sr_stat.def xapi-classes/subject.def xapi-classes/task.def \
	xapi-classes/tunnel.def xapi-classes/user.def xapi-classes/vdi_nbd_server_info.def
libfront_a_SOURCES += xapi-classes/task.c
libfront_a_SOURCES += xapi-classes/start.c xapi-classes/start.h xapi-classes/host_records.c xapi-classes/host.c xapi-classes/host_machine.c xapi-classes/absent.c xapi-classes/certificate.c \
	xapi-classes/network.c xapi-classes/message.c xapi-classes/sim_fill.c
libfront_a_SOURCES += xapi-classes/session.c xapi-classes/subject.c xapi-classes/role.c xapi-classes/auth.c \
	xapi-classes/ask_auth.h
libfront_a_SOURCES += xapi-classes/storage.c xapi-classes/storage.h xapi-classes/sr.c xapi-classes/vdi.c xapi-classes/vdi.h xapi-classes/vdi_cbt.c \
	xapi-classes/vdi_delta.c xapi-classes/vdi_migrate.c xapi-classes/vdi_nbd.c \
	xapi-classes/nbd_server.c xapi-classes/nbd_server.h xapi-classes/nbd_handshake.c xapi-classes/nbd_export.c \
	xapi-classes/nbd_stream.c xapi-classes/nbd_stream.h xapi-classes/pbd.c \
	xapi-classes/storage_start.c xapi-classes/storage_draft.c xapi-classes/storage_image.c xapi-classes/storage_driver.c xapi-classes/blob.c xapi-classes/pool.c
libfront_a_SOURCES += xapi-classes/operation.c xapi-classes/operation.h xapi-classes/operation_private.h \
	xapi-classes/operation_devices.c xapi-classes/vm.h xapi-classes/vm.c xapi-classes/vm_ask.c \
	xapi-classes/vm_autostart.c xapi-classes/vm_checkpoint.c xapi-classes/vm_appliance.c xapi-classes/vm_clone.c xapi-classes/vm_config.c xapi-classes/vm_create.c \
	xapi-classes/vm_data_source.c xapi-classes/vm_device.c xapi-classes/vm_disks.c xapi-classes/vm_foreign.c xapi-classes/vm_foreign.h \
	xapi-classes/vm_memory.c xapi-classes/vm_metrics.c \
	xapi-classes/vm_place.c xapi-classes/vm_power.c xapi-classes/vm_provision.c xapi-classes/vm_recover.c xapi-classes/vm_revert.c xapi-classes/vm_start.c \
	xapi-classes/vm_state.c xapi-classes/vm_stop.c xapi-classes/vm_stop.h xapi-classes/vm_suspend.c xapi-classes/vm_twin.c \
	xapi-classes/vm_twin.h xapi-classes/vm_vcpus.c xapi-classes/vm_watch.c xapi-classes/vbd.c xapi-classes/vif.c \
	xapi-classes/template.c xapi-classes/run_message.c xapi-classes/run_message.h xapi-classes/vmss.c xapi-classes/vmss.h xapi-classes/vmss_run.c \
	xapi-classes/crashdump.c xapi-classes/crashdump.h xapi-classes/cpu_pool.c xapi-classes/cpu_pool.h xapi-classes/cpu_pool_world.c \
	xapi-classes/message.h xapi-classes/operation_appliance.c xapi-classes/console.c xapi-classes/world.c xapi-classes/world.h
libfront_a_SOURCES += xapi-classes/disk.c xapi-classes/disk.h xapi-classes/disk_queue.c xapi-classes/disk_queue.h \
	xapi-classes/transfer.c xapi-classes/transfer.h \
	xapi-classes/transfer_raw.c xapi-classes/transfer_disk.h xapi-classes/transfer_vhd.c xapi-classes/vhd.c xapi-classes/vhd.h \
	xapi-classes/vhd_in.c xapi-classes/image_io.h xapi-classes/transfer_image.c xapi-classes/transfer_qcow2.c \
	xapi-classes/qcow2.c xapi-classes/qcow2.h xapi-classes/qcow2_in.c xapi-classes/disk_map.c xapi-classes/disk_map.h \
	xapi-classes/blob_data.c xapi-classes/blob_data.h \
	xapi-classes/dump.h xapi-classes/dump_write.c xapi-classes/dump_read.c xapi-classes/dump_restore.c xapi-classes/transfer_dump.c \
	xapi-classes/rfb.c xapi-classes/rfb.h \
	xapi-classes/rrd.c xapi-classes/rrd.h xapi-classes/transfer_rrd.c xapi-classes/host_data_source.c \
	xapi-classes/transfer_export.c xapi-classes/transfer_import.c \
	xapi-classes/transfer_console.c xapi-classes/websocket.c xapi-classes/websocket.h \
	xapi-classes/xva.h xapi-classes/xva_ova.c xapi-classes/xva_records.c xapi-classes/xva_stream.c \
	xapi-classes/xva_tar.c xapi-classes/xva_tar.h
