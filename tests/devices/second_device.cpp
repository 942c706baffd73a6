// A second device, "lab", for machines that have none. Its memory is the processor's, but PyTorch
// takes it for another device: what mixes the two, asks for a numpy array, or draws from the wrong
// generator fails as it does on a GPU.
//
// Every operator runs the processor's own kernel on tensors that share the memory of ours (`Call`).
// Nothing is computed later than it is asked for; `pending` says whether something was, since the
// last time anybody waited for the device.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>

namespace {

using c10::Device;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::IValue;
using c10::Storage;

const Device LAB(c10::DeviceType::PrivateUse1, 0);
const DispatchKeySet KEYS(DispatchKey::PrivateUse1);
std::atomic<bool> pending{false}, no_float64{false};
std::atomic<int64_t> synchronized{0}, operators{0};

void wait() { pending = false; }

void require_dtype(c10::ScalarType dtype) {  // the words of Apple's device
  TORCH_CHECK_TYPE(
      !no_float64 || (dtype != at::kDouble && dtype != at::kComplexDouble),
      "Cannot convert a lab Tensor to ", dtype,
      " dtype as the lab framework doesn't support float64. Please use float32 instead.");
}

// --- memory ---

template <typename Owner>
c10::DataPtr shared(void* data, Owner owner, Device device) {  // a pointer that keeps `owner` alive
  return {data, new Owner(std::move(owner)), [](void* held) { delete static_cast<Owner*>(held); },
          device};
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    auto memory = std::make_shared<c10::DataPtr>(c10::GetCPUAllocator()->allocate(size));
    return shared(memory->get(), memory, LAB);
  }
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }
} allocator;
REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &allocator);

at::Tensor over(const Storage& storage, DispatchKeySet keys, const at::Tensor& like) {
  auto result = at::detail::make_tensor<c10::TensorImpl>(Storage(storage), keys, like.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return result;
}

// --- one call of an operator, on the processor ---

struct Call {
  std::vector<std::pair<at::Tensor, at::Tensor>>
      tensors;  // ours, and the processor's over the same memory
  std::vector<std::pair<Storage, Storage>> storages;
  at::AutoDispatchBelowADInplaceOrView guard;

  at::Tensor lend(const at::Tensor& ours) {
    if (!ours.defined() || !ours.is_privateuseone()) return ours;
    for (auto& [known, lent] : tensors)
      if (known.is_same(ours)) return lent;
    auto lent = over(lend(ours.storage()), DispatchKeySet(DispatchKey::CPU), ours);
    tensors.emplace_back(ours, lent);
    return lent;
  }

  Storage lend(const Storage& ours) {
    for (auto& [known, lent] : storages)
      if (known.is_alias_of(ours)) return lent;
    Storage lent(Storage::use_byte_size_t(), ours.nbytes(),
                 shared(ours.mutable_data(), ours, at::kCPU), c10::GetCPUAllocator(),
                 /*resizable=*/true);
    storages.emplace_back(ours, lent);
    return lent;
  }

  at::Tensor take(const at::Tensor& theirs) {
    if (!theirs.defined()) return theirs;
    for (auto& [ours, lent] : tensors)
      if (lent.is_same(theirs)) return ours;
    require_dtype(theirs.scalar_type());
    TORCH_CHECK(theirs.layout() == at::kStrided, "the lab device holds dense tensors only");
    return over(take(theirs.storage()), KEYS, theirs);
  }

  Storage take(const Storage& theirs) {
    for (auto& [ours, lent] : storages)
      if (lent.is_alias_of(theirs)) return ours;
    Storage ours(Storage::use_byte_size_t(), theirs.nbytes(),
                 shared(theirs.mutable_data(), theirs, LAB), &allocator, true);
    storages.emplace_back(ours, theirs);
    return ours;
  }

  // What the kernel resized is resized for us too.
  void settle() {
    for (auto& [ours, lent] : storages)
      if (ours.data() != lent.data() || ours.nbytes() != lent.nbytes()) {
        auto memory =
            std::make_shared<c10::DataPtr>(lent.set_data_ptr(c10::DataPtr(nullptr, at::kCPU)));
        ours.set_data_ptr_noswap(shared(memory->get(), memory, LAB));
        ours.set_nbytes(lent.nbytes());
      }
    for (auto& [ours, lent] : tensors)
      if (ours.sizes() != lent.sizes() || ours.strides() != lent.strides())
        ours.unsafeGetTensorImpl()->set_sizes_and_strides(lent.sizes(), lent.strides(),
                                                          lent.storage_offset());
  }
};

// --- random numbers ---

struct Generator final : c10::GeneratorImpl {
  at::Generator own;  // the processor's kernels draw from this one
  explicit Generator(at::Generator drawn) : GeneratorImpl(LAB, KEYS), own(std::move(drawn)) {}
  void set_current_seed(uint64_t seed) override { own.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { own.set_offset(offset); }
  uint64_t get_offset() const override { return own.get_offset(); }
  uint64_t current_seed() const override { return own.current_seed(); }
  uint64_t seed() override { return own.seed(); }
  void set_state(const c10::TensorImpl& state) override {
    own.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return own.unsafeGetGeneratorImpl()->get_state();
  }
  Generator* clone_impl() const override { return new Generator(own.clone()); }
};

at::Generator new_generator() {
  return at::make_generator<Generator>(at::detail::createCPUGenerator());
}

const at::Generator& default_generator() {
  static const auto* generator = new at::Generator(new_generator());
  return *generator;
}

// --- any operator ---

[[noreturn]] void mixed(const c10::OperatorHandle& op) {
  TORCH_CHECK(false,
              "Expected all tensors to be on the same device, but found at least two devices, "
              "lab:0 and cpu! (in ",
              op.schema().name(), ")");
}

// On a GPU an operator takes numbers (tensors without dimensions) from the processor, and indexing
// its lists of places.
void require_same_device(const c10::OperatorHandle& op, const at::Tensor& tensor) {
  TORCH_CHECK(!tensor.defined() || tensor.is_privateuseone() || tensor.is_cpu(), "a ",
              tensor.device(), " tensor on lab");
  if (tensor.defined() && tensor.is_cpu() && tensor.dim() > 0) mixed(op);
}

IValue lend(Call& call, const c10::OperatorHandle& op, const c10::Argument& argument,
            const IValue& value) {
  if (value.isTensor()) {
    require_same_device(op, value.toTensor());
    return call.lend(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> lent;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      require_same_device(op, tensor);
      lent.push_back(call.lend(tensor));
    }
    return lent;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> lent;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      if (tensor && argument.name() != "indices") require_same_device(op, *tensor);
      lent.push_back(tensor ? std::optional<at::Tensor>(call.lend(*tensor)) : std::nullopt);
    }
    return lent;
  }
  if (value.isDevice() && value.toDevice().is_privateuseone()) return Device(at::kCPU);
  const auto& kind = argument.real_type();
  bool draws = kind->str().find("Generator") != std::string::npos;
  if (draws && value.isNone())
    return static_cast<Generator*>(default_generator().unsafeGetGeneratorImpl())->own;
  if (draws) {
    auto generator = value.toGenerator();
    TORCH_CHECK(generator.device().is_privateuseone(),
                "Expected a 'lab' device type for generator but found '", generator.device().type(),
                "'");
    return static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->own;
  }
  return value;
}

IValue take(Call& call, const IValue& value) {
  if (value.isTensor()) return call.take(value.toTensor());
  if (!value.isTensorList()) return value;
  c10::List<at::Tensor> ours;
  for (const at::Tensor& tensor : value.toTensorVector()) ours.push_back(call.take(tensor));
  return ours;
}

void any_operator(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call call;
  const auto& arguments = op.schema().arguments();
  const size_t first = stack->size() - arguments.size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = (*stack)[first + i];
    value = lend(call, op, arguments[i], value);
  }
  if (call.tensors.size() > 0 && (*stack)[first].isTensor() &&
      op.schema().name().find("index") != std::string::npos) {
    bool ours = false;
    for (auto& [_, lent] : call.tensors) ours |= lent.is_same((*stack)[first].toTensor());
    if (!ours) mixed(op);  // pictures of the processor, indexed by places on the device
  }
  pending = true;
  ++operators;
  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);
  call.settle();
  const size_t results = op.schema().returns().size();
  for (size_t i = stack->size() - results; i < stack->size(); ++i)
    (*stack)[i] = take(call, (*stack)[i]);
  if (op.schema().name() == "aten::_local_scalar_dense" || op.schema().name() == "aten::equal")
    wait();
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&any_operator>());
}

// --- operators without a kernel on the processor, or that must not run there ---

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  require_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_generic(size, &allocator, KEYS, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<Device>, std::optional<bool>) {
  require_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_strided_generic(size, stride, &allocator, KEYS,
                                           c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  Call call;
  call.lend(to).copy_(call.lend(from));
  pending = true;
  if (!to.is_privateuseone()) wait();
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

bool has_compatible_shallow_copy_type(const at::Tensor& one,
                                      const at::Tensor& other) {  // as between CPU and CUDA
  auto known = [](const at::Tensor& tensor) {
    return (tensor.is_cpu() || tensor.is_privateuseone()) && tensor.layout() == at::kStrided;
  };
  return known(one) && known(other);
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, c10::IntArrayRef stride,
                       c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
  TORCH_CHECK(input.is_privateuseone() && weight.is_privateuseone() &&
                  (!bias || !bias->defined() || bias->is_privateuseone()),
              "Input type and weight type should be the same: expected all tensors to be on the "
              "same device, but found "
              "at least two devices, lab:0 and cpu! (in convolution)");
  Call call;
  auto lent = bias && bias->defined() ? std::optional<at::Tensor>(call.lend(*bias)) : std::nullopt;
  pending = true;
  return call.take(at::convolution(call.lend(input), call.lend(weight), lent, stride, padding,
                                   dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
    c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  TORCH_CHECK(grad.is_privateuseone() && input.is_privateuseone() && weight.is_privateuseone(),
              "Expected all tensors to be on the same device, but found at least two devices, "
              "lab:0 and cpu! (in the "
              "backward of a convolution)");
  Call call;
  const int64_t channels = transposed ? weight.size(1) * groups : weight.size(0);
  pending = true;
  auto [one, two, three] = at::convolution_backward(
      call.lend(grad), call.lend(input), call.lend(weight), c10::IntArrayRef({channels}), stride,
      padding, dilation, transposed, output_padding, groups, wanted);
  return {call.take(one), call.take(two), call.take(three)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("resize_", at::native::resize_);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("set_.source_Storage",
         static_cast<at::Tensor& (*)(at::Tensor&, Storage)>(at::native::set_));
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_has_compatible_shallow_copy_type", has_compatible_shallow_copy_type);
  for (auto* loss :
       {"mse_loss", "smooth_l1_loss"})  // else they fill an output of another shape, with a warning
    m.impl(loss, torch::CppFunction::makeFromBoxedFunction<&any_operator>());
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

// --- torch.autocast("lab"): the same operators in half precision as on a GPU ---

namespace autocast_rules {
using namespace at::autocast;
#define LAB_LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define LAB_FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define LAB_WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(LAB_LOWER)
  AT_FORALL_FP32(LAB_FLOAT32)
  AT_FORALL_PROMOTE(LAB_WIDEST)
}
}  // namespace autocast_rules

// --- what PyTorch asks of a device ---

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return LAB.type(); }
  Device exchangeDevice(Device) const override { return LAB; }
  Device getDevice() const override { return LAB; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  c10::Stream getStream(Device) const override { return c10::Stream(c10::Stream::DEFAULT, LAB); }
  c10::Stream getDefaultStream(Device) const override { return getStream(LAB); }
  c10::Stream getNewStream(Device, int) const override { return getStream(LAB); }
  c10::Stream exchangeStream(c10::Stream) const override { return getStream(LAB); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const c10::Stream&) const override { return !pending; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { synchronizeDevice(0); }
  void synchronizeDevice(const c10::DeviceIndex) const override {
    ++synchronized;
    wait();
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return new_generator(); }
  Device getDeviceFromPtr(void*) const override { return LAB; }
  void resizePrivateUse1Bytes(const Storage& storage, size_t size) const override {
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), size);
  }
};
const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks), true);

TORCH_LIBRARY(lab, m) {
  m.def("synchronize", []() { c10::impl::getDeviceGuardImpl(LAB.type())->synchronizeDevice(0); });
  m.def("synchronized", []() -> int64_t { return synchronized; });
  m.def("operators", []() -> int64_t { return operators; });
  m.def("pending", []() -> bool { return pending; });
  m.def("seed",
        [](int64_t seed) { default_generator().unsafeGetGeneratorImpl()->set_current_seed(seed); });
  m.def("random_state", []() { return default_generator().get_state(); });
  m.def("set_random_state(Tensor state) -> ()", [](const at::Tensor& state) {
    auto generator = default_generator();
    generator.set_state(state);
  });
  m.def("refuse_float64", [](bool refused) { no_float64 = refused; });
}

}  // namespace
