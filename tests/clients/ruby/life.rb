# life.rb - a VM's life with Ruby's XMLRPC::Client, as fog-xenserver speaks: ruby life.rb URL USER PASSWORD
require 'openssl'
require 'xmlrpc/client'

url, user, password = ARGV

class Api
  def initialize(url)
    @client = XMLRPC::Client.new2(url)
    @client.http.verify_mode = OpenSSL::SSL::VERIFY_NONE if url.start_with?('https')
  end

  def call(method, *arguments)
    answer = @client.call(method, *arguments)
    raise answer['ErrorDescription'].join(' ') unless answer['Status'] == 'Success'
    answer['Value']
  end

  def bare(method, *arguments)
    @client.call(method, *arguments)
  end
end

def check(what, got, wanted)
  abort "#{what}: #{got.inspect}, not #{wanted.inspect}" unless got == wanted
end

api = Api.new(url)
session = api.call('session.login_with_password', user, password)
call = ->(method, *arguments) { api.call(method, session, *arguments) }
in_task = lambda do |method, *arguments|
  task = call.("Async.#{method}", *arguments)
  sleep 0.01 while call.('task.get_status', task) == 'pending'
  check method, call.('task.get_status', task), 'success'
  result = call.('task.get_result', task)
  call.('task.destroy', task)
  result.sub('<value>', '').sub('</value>', '')
end

abort 'no listMethods' unless api.bare('system.listMethods').include?('VM.get_all_records')
%w[VM host pool SR PBD VDI VIF VBD network PIF VM_metrics host_cpu task].each { |c| call.("#{c}.get_all_records") }
template = call.('VM.get_by_name_label', 'sim-00001').first

[call, in_task].each do |run|
  vm = run.('VM.clone', template, 'ruby')
  [['start', [false, false], 'Running'], ['pause', [], 'Paused'], ['unpause', [], 'Running'],
   ['suspend', [], 'Suspended'], ['resume', [false, false], 'Running'], ['clean_reboot', [], 'Running'],
   ['clean_shutdown', [], 'Halted']].each do |message, arguments, state|
    run.("VM.#{message}", vm, *arguments)
    check message, call.('VM.get_power_state', vm), state
  end
  run.('VM.destroy', vm)
  begin
    call.('VM.get_record', vm)
    abort 'destroyed, and yet there'
  rescue RuntimeError => e
    check 'after destroy', e.message, "HANDLE_INVALID VM #{vm}"
  end
end

record = call.('VM.get_record', template)
check 'a date', record['snapshot_time'].class, XMLRPC::DateTime
check 'a float', record['HVM_shadow_multiplier'].class, Float
check 'an int64', record['memory_static_max'], (256 << 20).to_s
call.('VM.set_user_version', template, 5)
check 'an int', call.('VM.get_user_version', template), '5'
call.('VM.set_name_description', template, "Zürich <&>")
check 'text', call.('VM.get_name_description', template).force_encoding('UTF-8'), "Zürich <&>"

batch = call.('event.from', ['vm'], '', 5.0)
check 'events', batch['events'].map { |e| e['ref'] }.sort, call.('VM.get_all').sort
call.('session.logout')
puts 'ok'
