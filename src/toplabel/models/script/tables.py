"""Tables: what is known of libraries by name: what computes, what draws lots, what reaches out."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMAGE_LIBRARIES = _words(
    """
    numpy torch torchvision PIL cv2 albumentations math
    """
)
NUMPY_FUNCTIONS = _words(
    """
    array asarray ascontiguousarray float32 float64 uint8 expand_dims squeeze transpose moveaxis
    swapaxes reshape ravel clip invert bitwise_not abs mean std max min sum stack dot flip
    fliplr flipud where subtract divide multiply add true_divide round rint repeat tile
    concatenate pad zeros ones zeros_like ones_like newaxis rollaxis copy astype power sqrt
    argwhere column_stack vstack hstack nonzero any all float_ double int32 int64 single
    logical_not average median
    """
)
TORCH_FUNCTIONS = _words(
    """
    from_numpy tensor as_tensor Tensor FloatTensor unsqueeze squeeze flatten reshape permute
    transpose stack cat clamp mean std sub div mul add float flip movedim ones_like zeros_like
    where max min sum abs round
    """
)
CV2_FUNCTIONS = _words(
    """
    resize cvtColor bitwise_not threshold GaussianBlur medianBlur blur adaptiveThreshold
    equalizeHist normalize dilate erode flip rotate copyMakeBorder split merge absdiff
    convertScaleAbs bilateralFilter fastNlMeansDenoising subtract divide multiply
    """
)
FUNCTIONAL = _words(
    """
    to_tensor pil_to_tensor to_image resize center_crop normalize rgb_to_grayscale to_grayscale
    to_pil_image invert convert_image_dtype crop pad five_crop hflip vflip rotate
    """
)
IMAGE_OPS = _words(
    """
    invert grayscale exif_transpose autocontrast equalize fit pad contain expand mirror flip
    """
)
ON_IMAGE = _words(
    """
    convert resize crop transpose rotate getbbox copy split point reduce filter getchannel
    thumbnail paste
    """
)
ON_ARRAY = _words(
    """
    astype reshape transpose copy flatten ravel mean max min std sum clip squeeze swapaxes
    repeat round dot any all item tolist
    """
)
ON_TENSOR = _words(
    """
    unsqueeze squeeze view reshape float double to permute transpose flatten div mul sub add
    type clone detach numpy repeat expand contiguous unsqueeze_ div_ sub_ mul_ add_ squeeze_
    size dim mean std max min sum clamp byte view_as t round abs item flip movedim expand_dims
    """
)
ATTRIBUTES = _words(
    """
    size width height mode shape ndim dtype T data
    """
)
TEXT_METHODS = _words(
    """
    split strip lower upper title format join replace startswith endswith capitalize lstrip
    rstrip splitlines zfill
    """
)
DATA_METHODS = _words(
    """
    append extend index copy sort insert reverse keys values items get update
    """
)
SAME_NETWORK = _words(
    """
    to cuda cpu eval train half float double requires_grad_ share_memory to_device module
    """
)
SAME_IMAGE = _words(
    """
    cuda cpu detach requires_grad_ pin_memory clone contiguous share_memory_
    """
)
IDENTITY = _words(
    """
    torch.autograd.Variable torch.nn.DataParallel torch.compile copy.deepcopy copy.copy
    tqdm.tqdm tqdm.auto.tqdm tqdm.notebook.tqdm tqdm iter
    """
)
RANDOM = _words(
    """
    RandomHorizontalFlip RandomVerticalFlip RandomRotation ColorJitter RandomAffine
    RandomErasing RandomPerspective RandomAdjustSharpness RandomAutocontrast RandomEqualize
    RandomPosterize RandomGrayscale TrivialAugmentWide AutoAugment RandAugment AugMix
    RandomApply RandomChoice RandomInvert RandomSolarize ElasticTransform HorizontalFlip
    VerticalFlip Rotate ShiftScaleRotate RandomBrightnessContrast
    """
)
OTHERS = _words(
    """
    next iter isinstance print super map filter open
    """
)
COMPUTING = _words(
    """
    torch torchvision timm numpy math functools typing collections dataclasses einops itertools
    copy warnings abc enum random operator types typing_extensions __future__ numbers string re
    time contextlib inspect cmath fractions statistics
    """
)
HARMLESS_DECORATORS = _words(
    """
    no_grad inference_mode enable_grad set_grad_enabled autocast cache lru_cache wraps compile
    ignore unused script
    """
)
"""What gives the same numbers as the function itself."""

TALKING = _words(
    """
    torchmetrics wandb tqdm matplotlib logging sklearn torchsummary torchinfo lightning
    pytorch_lightning tensorboard tensorboardX hydra omegaconf mlflow os sys pathlib datetime
    pandas rich loguru pprint
    """
)
REFUSED = _words(
    """
    save load hub load_state_dict_from_url system popen remove rename unlink rmtree makedirs
    mkdir tofile fromfile savez savez_compressed memmap loadtxt genfromtxt savetxt urlopen
    urlretrieve download_url load_url load_library load_inline cpp_extension ctypeslib open_memmap
    DataSource PackageExporter PackageImporter CompilationUnit attrgetter methodcaller getmembers
    getmembers_static getattr_static getmodule currentframe stack trace get_type_hints
    get_annotations runstring f2py Popen check_call check_output spawn fork kill __globals__
    __builtins__ __subclasses__ __code__ __loader__ __import__ __bases__ __mro__ f_globals
    f_builtins
    """
)
NO_BUILTINS = _words(
    """
    open exec eval compile input breakpoint exit quit help globals vars memoryview
    """
)
EVENTS = _words(
    """
    subprocess.Popen os.system os.exec os.posix_spawn os.spawn os.remove os.rename os.rmdir
    os.mkdir os.truncate os.link os.symlink os.chmod os.chown os.utime os.setxattr os.removexattr
    os.fork os.forkpty os.kill os.killpg os.putenv os.unsetenv os.chdir os.fchdir
    shutil.rmtree shutil.move shutil.copyfile shutil.copytree pty.spawn sqlite3.connect
    socket.connect socket.bind socket.sendto socket.sendmsg socket.getaddrinfo
    socket.gethostbyname urllib.Request
    """
)

REFUSED_ANYWHERE = _words(
    """
    system popen urlopen urlretrieve Popen check_call check_output __globals__ __builtins__
    __subclasses__ __code__ __loader__ __import__ f_globals f_builtins load_state_dict_from_url
    __self__ __getattribute__ f_back f_locals gi_frame cr_frame ag_frame tb_frame _evaluate
    PyTorchFileWriter from_file
    """
)
"""Of whatever it is asked; what only libraries have is refused of them alone."""

WRITING = _words(
    """
    save _save_for_lite_interpreter
    """
)
"""Methods of objects of libraries; a network's own may be called so."""
SYSTEM = _words(
    """
    posix nt subprocess shutil ctypes socket multiprocessing importlib builtins gc runpy code pty
    _thread _io _posixsubprocess _ctypes
    """
)
"""What no script's network imports, whoever named it."""
